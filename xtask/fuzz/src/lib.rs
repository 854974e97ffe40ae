//! What is asserted of any bytes: one module for each parser, each with one `check`.
//!
//! A `check` panics if something does not hold. The targets in `targets/` hand it what libFuzzer makes up.

#![forbid(unsafe_code)]

pub mod archives;
pub mod client_answers;
pub mod client_uploads;
pub mod content_range;
pub mod dir;
pub mod distribution;
pub mod docker_config;
pub mod error_body;
pub mod index;
pub mod layers;
pub mod layouts;
pub mod link;
pub mod location;
pub mod manifest;
pub mod platform;
pub mod reference;
pub mod retry_after;
pub mod server_requests;
pub mod server_route;
pub mod www_authenticate;

mod document;
mod headers;
mod reading;
mod server;
mod support;
mod tree;
