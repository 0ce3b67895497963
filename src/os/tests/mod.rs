//! Tests of this room with real processes and sockets.
