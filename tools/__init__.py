"""What is needed to work on Milonga, and not to run it."""
