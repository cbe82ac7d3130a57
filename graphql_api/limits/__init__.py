"""What one request may ask for: its cost, its rate, its time."""
