"""What is said in deploy/ holds: nothing of it can be built or started here, so each of its promises is checked against the code."""
