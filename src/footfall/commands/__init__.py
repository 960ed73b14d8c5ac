"""What the commands do that are no service: import, export, rebuild."""
