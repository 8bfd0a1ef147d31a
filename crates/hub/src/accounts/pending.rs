//! What of accounts is not stored.

use mcphub_domain::{ServerId, UserId};

use super::standing::Standings;
use super::turns::Turns;
use super::ways::Ways;

/// Names an account: whose, and where.
pub(crate) type Whose = (UserId, ServerId);

/// Knows what of accounts is not stored.
pub(crate) struct Accounts {
    pub(super) ways: Ways,
    pub(super) standings: Standings,
    pub(super) turns: Turns,
}

impl Accounts {
    pub(crate) fn new() -> Self {
        Self { ways: Ways::new(), standings: Standings::new(), turns: Turns::default() }
    }
}
