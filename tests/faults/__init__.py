"""What must hold when code hangs or dies, disks fill up, files are tampered with, and names are hostile."""
