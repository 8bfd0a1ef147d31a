//! What the vault promises to the floors above.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod golden;
mod pepper;
mod personal;
mod provider;
mod rotate;
mod secrecy;
mod stream;
mod vault;

use mcphub_domain::id::InstallId;
use mcphub_domain::random::Entropy;
use mcphub_domain::secret::Destination;
use mcphub_vault::{Context, Keyring, Vault, VaultError, WrapKey};

/// Makes the key that `seed` stands for.
fn key(seed: u64) -> WrapKey {
    WrapKey::random(&Entropy::fixed(seed))
}

/// Makes a vault of installation 1 that seals with one key and also opens with others.
fn vault(current: u64, others: &[u64]) -> Vault {
    let others = others.iter().map(|seed| key(*seed)).collect();
    Vault::new(install(1), Keyring::new(key(current), others))
}

fn install(number: u8) -> InstallId {
    InstallId::from_bytes([number; 16])
}

/// Describes the place that the tests seal for.
fn place(destination: Option<&Destination>) -> Context<'_> {
    Context {
        table: "credentials",
        column: "sealed",
        row: "row-1",
        owner: "alice",
        name: "GITHUB_TOKEN",
        version: 3,
        destination,
    }
}

fn is_integrity<T>(result: &Result<T, VaultError>) -> bool {
    matches!(result, Err(VaultError::Integrity { .. }))
}
