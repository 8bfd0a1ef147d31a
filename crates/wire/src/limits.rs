//! How large a message may be. The same numbers stand in the security design, 3.10.

/// Holds the most that one message may contain; a value equal to the limit still passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bounds the length of the whole body in bytes.
    pub body: usize,
    /// Bounds how deep objects and arrays may nest, the envelope included.
    pub depth: usize,
    /// Bounds the number of object keys in the whole body.
    pub keys: usize,
    /// Bounds the length of one string in bytes as written, without its quotes.
    pub string: usize,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

impl Limits {
    /// Bounds what a client may send.
    pub const REQUEST: Self = Self { body: 4 * MIB, depth: 64, keys: 10_000, string: MIB };

    /// Bounds what an MCP server may answer: an image is one long string and a catalogue has many keys.
    pub const RESPONSE: Self = Self { body: 8 * MIB, depth: 64, keys: 100_000, string: 8 * MIB };

    /// Bounds values that were checked before and are read again to take them apart.
    pub(crate) const CHECKED: Self =
        Self { body: usize::MAX, depth: 128, keys: usize::MAX, string: usize::MAX };
}
