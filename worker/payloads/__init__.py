"""What Temporal is given to keep: payloads, which may be encrypted, and failures, in which no secret is told."""
