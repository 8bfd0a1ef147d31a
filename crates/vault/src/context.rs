//! Where a secret belongs: what a sealed value is bound to.

use mcphub_domain::id::InstallId;
use mcphub_domain::secret::Destination;

use crate::encode::fields;

/// Separates these bytes from all others that the same key could authenticate.
const DOMAIN: &[u8] = b"mcphub/secret/v1";

/// Says where a secret belongs. A sealed value opens only where every field is what it was when the
/// value was sealed, and only in the installation whose [`Vault`](crate::Vault) sealed it.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Names the table.
    pub table: &'static str,
    /// Names the column.
    pub column: &'static str,
    /// Identifies the row.
    pub row: &'a str,
    /// Identifies the person or thing that the secret belongs to.
    pub owner: &'a str,
    /// Names the secret, such as its slot.
    pub name: &'a str,
    /// Counts the versions of this secret, so that an older one can't be put back.
    pub version: u64,
    /// Says where the secret may be sent, if it is a credential.
    pub destination: Option<&'a Destination>,
}

impl Context<'_> {
    /// Encodes the context as the data that a sealed value is authenticated with.
    pub(crate) fn aad(&self, install: InstallId) -> Vec<u8> {
        fields(&[
            DOMAIN,
            install.as_bytes(),
            self.table.as_bytes(),
            self.column.as_bytes(),
            self.row.as_bytes(),
            self.owner.as_bytes(),
            self.name.as_bytes(),
            &self.version.to_be_bytes(),
            self.destination.map_or(&[] as &[u8], |destination| destination.as_bytes()),
        ])
    }
}
