"""What the gateway is measured against. Room: bench. Each peer says whether it is here, and how to start it."""
