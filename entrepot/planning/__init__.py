"""From a graph of steps to the plan of a run. Pure."""
