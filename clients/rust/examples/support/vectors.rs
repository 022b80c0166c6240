//! Reads `conformance/vectors.json`.

use pgkeras::{Array, Error};
use serde_json::Value;

/// Returns the content of the file.
pub fn read(path: impl AsRef<std::path::Path>) -> Result<Value, Box<dyn std::error::Error>> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

/// Decodes a base64 string.
pub fn base64(text: &Value) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = text.as_str().expect("base64 is a string");
    let digit = |letter| DIGITS.iter().position(|&one| one == letter).expect("a digit of base64") as u32;
    let digits: Vec<_> = text.bytes().filter(|&letter| letter != b'=').map(digit).collect();
    let bytes = |group: &[u32]| {
        let bits = group.iter().enumerate().fold(0, |bits, (i, digit)| bits | digit << (18 - 6 * i));
        bits.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(bytes).collect()
}

/// Decodes a list of lengths.
pub fn shape(value: &Value) -> Vec<usize> {
    serde_json::from_value(value.clone()).expect("a shape is a list of lengths")
}

/// A float32 array: an observation in the vectors.
#[allow(dead_code, reason = "every program uses some of it")]
pub struct FloatArray {
    values: Vec<f32>,
    shape: Vec<usize>,
}

#[allow(dead_code, reason = "every program uses some of it")]
impl FloatArray {
    /// Reads `data` and `shape`.
    pub fn new(array: &Value) -> Self {
        let bytes = base64(&array["data"]);
        let values = bytes.chunks_exact(4).map(|chunk| f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
        FloatArray { values: values.collect(), shape: shape(&array["shape"]) }
    }

    /// Returns the array as an argument of the client.
    pub fn view(&self) -> Result<Array<'_>, Error> {
        Array::new(&self.values, &self.shape)
    }
}
