//! The other written forms of a graph: JSON for tools, a compact binary one for caches and shipped programs, and the structural hash.
//!
//! Both forms keep everything, provenance too, and both verify what they read. JSON is `{"kiln": 1, "graph": {...}}`; the binary form is
//! [`MAGIC`], the version as two little-endian bytes, and the graph as `postcard` writes it. Extents and initialisers are written in the
//! spelling of the text form, and bytes of constants as hexadecimal digits in JSON. Unlike the text form, these follow the fields of the
//! data structures: a newer Kiln may refuse an older file by its version.

use crate::graph::Graph;
use crate::text::{TextOptions, write_graph};
use crate::verify::{Violations, verify};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The first bytes of the binary form.
pub(crate) const MAGIC: [u8; 4] = *b"KILN";
/// The version that is written and read.
const VERSION: u16 = 1;

/// Why a graph could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SerialError {
    /// The bytes are something else.
    #[error("this is no binary Kiln graph: it does not begin with `KILN` and a version")]
    Magic,
    /// Another version wrote it.
    #[error("the graph was written in version {0} of the form; this Kiln reads version {VERSION}")]
    Version(u16),
    /// The JSON is not that of a graph; the message has line and column.
    #[error("the JSON is not that of a graph: {0}")]
    Json(#[from] serde_json::Error),
    /// The bytes behind the header are not those of a graph.
    #[error("the bytes are not those of a graph: {0}")]
    Binary(#[from] postcard::Error),
    /// There is more than a graph.
    #[error("{0} bytes stand behind the graph")]
    Trailing(usize),
    /// It reads as a graph, but as one that does not verify.
    #[error("the graph does not verify: {0}")]
    Invalid(#[from] Violations),
}

#[derive(Serialize)]
struct WriteJson<'g> {
    kiln: u16,
    graph: &'g Graph,
}

#[derive(Deserialize)]
struct ReadVersion {
    kiln: u16,
}

#[derive(Deserialize)]
struct ReadJson {
    graph: Graph,
}

impl Graph {
    /// The graph as JSON.
    pub fn to_json(&self) -> Result<String, SerialError> {
        Ok(serde_json::to_string_pretty(&WriteJson {
            kiln: VERSION,
            graph: self,
        })?)
    }

    /// The graph of [`to_json`](Self::to_json), verified.
    pub fn from_json(json: &str) -> Result<Graph, SerialError> {
        // The version first: what else a newer file holds cannot be known.
        let ReadVersion { kiln } = serde_json::from_str(json)?;
        if kiln != VERSION {
            return Err(SerialError::Version(kiln));
        }
        let ReadJson { graph } = serde_json::from_str(json)?;
        verify(&graph)?;
        Ok(graph)
    }

    /// The graph in the binary form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SerialError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        Ok(postcard::to_extend(self, bytes)?)
    }

    /// The graph of [`to_bytes`](Self::to_bytes), verified. Memory is bounded by the number of bytes, whatever they claim.
    pub fn from_bytes(bytes: &[u8]) -> Result<Graph, SerialError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(SerialError::Magic)?;
        let (version, rest) = rest.split_first_chunk().ok_or(SerialError::Magic)?;
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(SerialError::Version(version));
        }
        let (graph, behind) = postcard::take_from_bytes(rest)?;
        if !behind.is_empty() {
            return Err(SerialError::Trailing(behind.len()));
        }
        verify(&graph)?;
        Ok(graph)
    }

    /// A hash of what the graph computes and of its signature, the same in every run, on every platform, for every way of reading it.
    ///
    /// It is the 128-bit FNV-1a hash (Fowler, Noll, Vo) of the UTF-8 bytes of the text form without locations, with the graph's name
    /// empty. So it covers what the text says: the text's version; names, order, roles, types and initialisers of the slots; op,
    /// attributes, operands and type of every node (dead ones too) in the order of the text; the bytes of dense constants; names, order
    /// and nodes of outputs and updates. It does not cover the graph's name, provenance, nor the places in the node table of sources and
    /// of constants that print as literals. Two graphs that differ in the order of independent nodes hash differently.
    pub fn structural_hash(&self) -> u128 {
        let mut hash = Fnv1a::new();
        // Hashing does not fail, and the printer adds no errors of its own.
        let _ = write_graph(&mut hash, self, "", TextOptions::default());
        hash.0
    }
}

/// FNV-1a with 128 bits.
struct Fnv1a(u128);

impl Fnv1a {
    /// 2^88 + 2^8 + 0x3b.
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;

    fn new() -> Self {
        Self(0x6C62_272E_07BB_0142_62B8_2175_6295_C58D)
    }
}

impl fmt::Write for Fnv1a {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(Self::PRIME);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn the_hash_is_fnv1a() {
        let mut hash = Fnv1a::new();
        hash.write_str("a").unwrap();
        assert_eq!(hash.0, 0xD228_CB69_6F1A_8CAF_7891_2B70_4E4A_8964);
    }

    #[test]
    fn headers_are_checked_before_the_graph() {
        let bytes = Graph::empty("g").to_bytes().unwrap();
        assert_eq!(Graph::from_bytes(&bytes).unwrap(), Graph::empty("g"));
        let mut newer = bytes.clone();
        newer[4] = 2;
        assert!(matches!(
            Graph::from_bytes(&newer),
            Err(SerialError::Version(2))
        ));
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(
            Graph::from_bytes(&longer),
            Err(SerialError::Trailing(1))
        ));
        assert!(matches!(Graph::from_bytes(b"KIL"), Err(SerialError::Magic)));
        assert!(matches!(
            Graph::from_bytes(b"KILN\x01"),
            Err(SerialError::Magic)
        ));
        assert!(matches!(
            Graph::from_json("{\"kiln\": 7, \"graph\": []}"),
            Err(SerialError::Version(7))
        ));
    }
}
