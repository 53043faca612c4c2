"""The commands of `linewatch`, by what one does with them; `linewatch/cli.py` mounts them.

Each module imports its heavy dependencies inside its functions: `linewatch --help` must not wait for torch.
"""
