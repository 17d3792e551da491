"""What a step costs: time, processors, memory, energy, and money where there are rates."""
