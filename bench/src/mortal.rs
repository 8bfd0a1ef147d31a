//! A server that behaves badly when it is asked to, in either era, over HTTP or stdio.
//!
//! What it does with a call is the name of the tool, so that whoever calls knows what to expect.

mod deed;
mod http;
mod stdio;

pub(crate) use deed::Era;
pub(crate) use http::serve;
pub(crate) use stdio::serve_stdio;
