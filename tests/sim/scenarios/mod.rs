//! Named scenarios: one rule of the design each, with exact actions and times.

mod backoff;
mod boot;
mod config;
mod ending;
mod forecast;
mod generations;
mod health;
mod jobs;
mod readiness;
mod reload;
mod rolling;
mod scaling;
mod stopping;
