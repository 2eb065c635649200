"""What one request may ask for, checked before memory or long time is spent on it."""
