//! Lists of fields as bytes, so that no two different lists read the same.

/// Joins the fields, each after its length in eight bytes.
pub(crate) fn fields(fields: &[&[u8]]) -> Vec<u8> {
    let length = fields.iter().map(|field| field.len() + 8).sum();
    let mut bytes = Vec::with_capacity(length);
    for field in fields {
        bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn a_byte_that_moves_between_fields_changes_the_bytes() {
        assert_ne!(fields(&[b"ab", b"c"]), fields(&[b"a", b"bc"]));
        assert_ne!(fields(&[b"abc"]), fields(&[b"abc", b""]));
    }
}
