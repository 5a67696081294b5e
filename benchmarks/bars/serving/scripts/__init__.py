"""What runs inside the environments of published clients; imports nothing of ours."""
