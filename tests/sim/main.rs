//! The simulator: the core under a virtual clock, with scripted processes, injected faults and storms of orders, held after
//! each event against an observer that knows only the design. The scenarios are the same core without chance.
//!
//! | part | what it owns |
//! |---|---|
//! | `rng`, `queue` | chance and the agenda |
//! | `specs`, `script`, `storm` | what pools, processes and operators are like |
//! | `kernel` | processes, groups, signals, notices |
//! | `shadow`, `facts`, `judge`, `invariants` | the observer and its promises |
//! | `world` | the driver: one run |
//! | `runs`, `isolation`, `foresight` | the tests over many seeds |
//! | `scene`, `scenarios` | exact tables, one per rule |
//! | `pure` | properties of the small pure pieces |
#![allow(clippy::disallowed_methods, reason = "seeds and steps come from the environment")]

mod coverage;
mod facts;
mod foresight;
mod invariants;
mod isolation;
mod judge;
mod kernel;
mod pure;
mod queue;
mod rng;
mod runs;
mod scenarios;
mod scene;
mod script;
mod shadow;
mod specs;
mod storm;
mod world;
