//! The calculation as its users see it: objects in, ordered intents out.

mod random;
mod support;
