"""What an operator sees in the browser."""
