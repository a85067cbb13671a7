//! Classification: the likeliest classes of an output in place of its values.
//!
//! The first dimension counts the batch when there are two or more; all else of it are classes. Each
//! class becomes one element of BYTES: `VALUE:INDEX`, and `:LABEL` where there is one. The value is in
//! the shortest form that reads back as the same number.

use crate::{
    elements::{Element, elements, float_name},
    error::OipError,
    request::check_classes,
};
use fuelbox_abi::{DataType, Shape, push_string_element};
use fuelbox_engine::Tensor;
use std::cmp::Ordering;

/// The places of the largest values, the largest first, at most `top` of them. Of equal ones the first
/// comes first; NaN is nobody's likeliest class and comes last.
pub fn likeliest(values: &[Element<'_>], top: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let largest = |a: &usize, b: &usize| compare(&values[*b], &values[*a]).then(a.cmp(b));
    if top < order.len() {
        order.select_nth_unstable_by(top, largest);
        order.truncate(top);
    }
    order.sort_unstable_by(largest);
    order
}

/// Elements of one tensor are of one kind; others are never compared.
fn compare(a: &Element<'_>, b: &Element<'_>) -> Ordering {
    match (a, b) {
        (Element::Unsigned(a), Element::Unsigned(b)) => a.cmp(b),
        (Element::Signed(a), Element::Signed(b)) => a.cmp(b),
        _ => {
            let key = |element: &Element<'_>| element.value().unwrap_or(f64::NAN);
            let (a, b) = (key(a), key(b));
            // NaN is below everything: `true` is above `false`.
            let unordered = || (!a.is_nan()).cmp(&!b.is_nan());
            a.partial_cmp(&b).unwrap_or_else(unordered)
        }
    }
}

/// The tensor of the likeliest `top` classes of each entry of the batch.
///
/// # Errors
/// Elements that cannot be compared: of BOOL and of BYTES.
pub fn classified(
    tensor: &Tensor,
    top: u64,
    labels: Option<&[String]>,
) -> Result<Tensor, OipError> {
    check_classes(&tensor.name, tensor.datatype)?;
    let values: Vec<Element<'_>> = elements(tensor).collect();
    let batch = match &*tensor.shape {
        [] | [_] => None,
        [batch, ..] => Some(*batch),
    };
    let classes = batch.map_or(values.len() as u64, |batch| match batch {
        0 => tensor.shape[1..].iter().fold(1, |count: u64, &dim| count.saturating_mul(dim)),
        _ => values.len() as u64 / batch,
    });
    let top = top.min(classes);
    let mut bytes = Vec::new();
    if top > 0 {
        for entry in values.chunks_exact(classes as usize) {
            for class in likeliest(entry, top as usize) {
                let text = text(&entry[class], class, labels);
                // Labels are of a file of a few megabytes: never too long.
                let _ = push_string_element(&mut bytes, text.as_bytes());
            }
        }
    }
    let dims = batch.map_or(vec![top], |batch| vec![batch, top]);
    let shape = Shape::new(&dims).unwrap_or_default(); // one or two
    Ok(Tensor { name: tensor.name.clone(), datatype: DataType::Bytes, shape, bytes })
}

fn text(value: &Element<'_>, class: usize, labels: Option<&[String]>) -> String {
    let label = labels.and_then(|labels| labels.get(class)).filter(|label| !label.is_empty());
    let label = label.map_or_else(String::new, |label| format!(":{label}"));
    match *value {
        Element::Unsigned(value) => format!("{value}:{class}{label}"),
        Element::Signed(value) => format!("{value}:{class}{label}"),
        Element::Single(value) if value.is_finite() => format!("{value}:{class}{label}"),
        Element::Double(value) if value.is_finite() => format!("{value}:{class}{label}"),
        Element::Single(value) => format!("{}:{class}{label}", float_name(value.into())),
        Element::Double(value) => format!("{}:{class}{label}", float_name(value)),
        Element::Bool(_) | Element::Bytes(_) => String::new(), // refused before
    }
}
