//! The observations of the scenario `structured_observations` from a row on: a batch of the given length, or a single
//! observation without it.

use std::collections::BTreeMap;

use pgkeras::{Array, Element, Error, Observation};

type Parts = BTreeMap<&'static str, Observation>;

/// Valid observations.
pub fn parts(row: usize, batch: &[usize]) -> Result<Observation, Error> {
    Ok(Observation::fields(fields(row, batch)?))
}

/// Observations without `hands.1`.
pub fn missing_part(row: usize, batch: &[usize]) -> Result<Observation, Error> {
    let (mut all, mut hands) = (fields(row, batch)?, hands(row, batch)?);
    hands.remove("1");
    all.insert("hands", Observation::fields(hands));
    Ok(Observation::fields(all))
}

/// Observations with a `position` of three numbers.
pub fn short_part(row: usize, batch: &[usize]) -> Result<Observation, Error> {
    let mut all = fields(row, batch)?;
    all.insert("position", counted(row, batch, &[3], |_| 0.0_f32)?);
    Ok(Observation::fields(all))
}

fn fields(row: usize, batch: &[usize]) -> Result<Parts, Error> {
    Ok(Parts::from([
        ("camera", counted(row, batch, &[4, 4, 3], |i| (i % 251) as u8)?),
        ("hands", Observation::fields(hands(row, batch)?)),
        ("position", counted(row, batch, &[4], |i| ((i % 9) as f32 - 4.0) / 4.0)?),
    ]))
}

fn hands(row: usize, batch: &[usize]) -> Result<Parts, Error> {
    Ok(Parts::from([
        ("0", counted(row, batch, &[3], |i| (i % 2) as i8)?),
        ("1", counted(row, batch, &[], |i| (i % 4) as i64)?),
    ]))
}

/// A part. Each element is computed from its index among the elements of all rows.
fn counted<T: Element>(
    row: usize,
    batch: &[usize],
    shape: &[usize],
    element: impl Fn(usize) -> T,
) -> Result<Observation, Error> {
    let (rows, size) = (batch.iter().product::<usize>(), shape.iter().product::<usize>());
    let values: Vec<_> = (row * size..(row + rows) * size).map(element).collect();
    Ok(Array::new(&values, &[batch, shape].concat())?.into())
}
