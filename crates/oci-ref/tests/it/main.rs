//! The behaviour of this crate, through its public interface.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod archive;
mod archive_odd;
mod bad_files;
mod build;
mod convert;
mod copy_admission;
mod copy_flow;
mod copy_formats;
mod copy_held;
mod copy_named;
mod copy_options;
mod copy_select;
mod copy_signatures;
mod copy_systems;
mod copying;
mod dir;
mod distribution;
mod docker_archive;
mod docker_archive_odd;
mod exact;
mod flat;
mod graph;
mod hostile;
mod layout_bad;
mod layout_care;
mod layout_names;
mod layout_writers;
mod list;
mod parts;
mod platform;
mod probe;
mod references;
mod stores;
mod support;
mod walking;
