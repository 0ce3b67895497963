//! What depends on this very host: its processes, its limits, its users.
