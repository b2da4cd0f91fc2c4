"""Hardware in the loop: firmware targets, their boards on the desk, and what is run against them."""
