#![doc = include_str!("../README.md")]

pub mod action;
pub mod decide;
pub mod grant;
pub mod meter;
pub mod permit;
pub mod world;

pub use action::{Administration, Endpoint};
pub use meter::Meter;
pub use permit::{
    AdminPermit, AskPermit, Denial, Extent, LookPermit, Permit, PermitEntry, Recorded, Recorder, Route,
};
pub use world::World;
