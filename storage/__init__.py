"""What is kept: line state and verdicts in Redis, history in SQL, evidence and models on disk.

Imports no other package of the project, and never torch.
"""
