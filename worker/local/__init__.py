"""Everything on one machine: `dev`, `demo` and stand-ins."""
