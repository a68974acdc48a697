"""`foreman doctor`: what may be wrong with this foreman, why that matters, and what to do."""
