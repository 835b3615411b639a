//! A whole cluster against what is wrong: packets, files, processes, moments. Needs root.

mod faults;
mod frames;
mod full_disk;
mod half_open;
mod malformed;
mod matrix;
mod pods;
mod refusals;
mod revocation;
mod verbs;
