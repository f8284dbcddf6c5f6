"""What is known of one expression: how large it is, and of which columns and rows it is made; and its way elsewhere."""
