"""Everything with a side effect. Every activity can be repeated without harm."""
