//! Classes: the outputs of a classifier, as the names of its likeliest classes.

use fuelbox_engine::{DataType, Tensor};
use fuelbox_oip::{Element, Labels, elements, likeliest};

/// Classes that are shown of each row.
const TOP: usize = 5;
/// How far from 1 the sum of probabilities may be: well beyond rounding in half precision, well below
/// what scores sum up to by chance.
const SUM_TOLERANCE: f64 = 1e-3;

/// The likeliest classes of one row, the likeliest first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row<'a> {
    pub(crate) classes: Vec<(&'a str, f64)>,
    /// Whether the row's values are probabilities, or else scores.
    pub(crate) probabilities: bool,
}

/// The rows of an output that has one value for each label; none when it is something else.
pub(crate) fn rows<'a>(
    tensor: &Tensor,
    labels: &'a Labels,
    rows_max: usize,
) -> Option<Vec<Row<'a>>> {
    let scores = match tensor.datatype {
        DataType::Fp16 | DataType::Fp32 | DataType::Fp64 => true,
        DataType::Uint8 | DataType::Int8 => true, // quantised
        // Indices of classes, more likely than scores: a batch may have as many rows as labels.
        DataType::Uint16 | DataType::Uint32 | DataType::Uint64 => false,
        DataType::Int16 | DataType::Int32 | DataType::Int64 => false,
        DataType::Bool | DataType::Bytes => false,
    };
    let count = tensor.shape.last().and_then(|&last| usize::try_from(last).ok())?;
    if !scores || count == 0 || count != labels.names().len() {
        return None;
    }
    let mut values = elements(tensor);
    let rows = tensor.shape.element_count()? / count as u64;
    let rows = usize::try_from(rows).ok()?.min(rows_max);
    Some((0..rows).map(|_| row(values.by_ref().take(count).collect(), labels)).collect())
}

fn row<'a>(elements: Vec<Element<'_>>, labels: &'a Labels) -> Row<'a> {
    let values: Vec<f64> = elements.iter().filter_map(Element::value).collect();
    let sum: f64 = values.iter().sum();
    let within = values.iter().all(|value| (0.0..=1.0).contains(value));
    let probabilities = within && (sum - 1.0).abs() <= SUM_TOLERANCE;
    let order = likeliest(&elements, TOP).into_iter();
    let classes = order.map(|class| (labels.name(class), values[class])).collect();
    Row { classes, probabilities }
}

#[cfg(test)]
mod tests {
    use super::{super::elements::tests::tensor, *};

    fn check(dims: &[u64], values: &[f32]) -> String {
        let labels = Labels::parse(b"a\nb\nc").expect("labels");
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let Some(rows) = rows(&tensor(DataType::Fp32, dims, &bytes), &labels, 2) else {
            return "none".into();
        };
        let show = |row: &Row<'_>| {
            let classes: Vec<_> =
                row.classes.iter().map(|(name, value)| format!("{name} {value}")).collect();
            format!("{} {}", if row.probabilities { "p" } else { "s" }, classes.join(" "))
        };
        rows.iter().map(show).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn likeliest_classes_come_first() {
        for (dims, values, expected) in [
            (&[3][..], &[0.25, 0.5, 0.25][..], "p b 0.5 a 0.25 c 0.25"),
            (&[1, 3], &[0.5, 0.5, 0.5], "s a 0.5 b 0.5 c 0.5"),
            (&[1, 3], &[-1.0, 2.0, 0.0], "s b 2 c 0 a -1"),
            (&[1, 3], &[f32::NAN, 1.0, 0.0], "s b 1 c 0 a NaN"),
            (&[3, 3], &[1., 0., 0., 0., 1., 0., 0., 0., 1.], "p a 1 b 0 c 0; p b 1 a 0 c 0"),
            (&[0, 3], &[], ""),
            (&[2], &[0.5, 0.5], "none"),
            (&[], &[1.0], "none"),
        ] {
            assert_eq!(check(dims, values), expected, "{values:?}");
        }
        let labels = Labels::parse(b"a\nb\nc").expect("labels");
        assert_eq!(rows(&tensor(DataType::Int64, &[3], &[0; 24]), &labels, 2), None);
    }
}
