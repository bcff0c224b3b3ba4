"""Things that move, grow, blink and collide, as clips."""
