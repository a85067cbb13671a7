//! A guest of its own making: a picture of a digit goes in, its name comes out.
//!
//! Between them are three steps: the picture becomes the 64 numbers that `digits.onnx` was trained
//! on (`picture.rs`), tract runs the model, and the best class gets its label.

mod picture;

use anyhow::{Context, ensure};
use fuelbox_sdk::{
    DataType, Error, Load, Model, Outputs, Result, Run, Shapes, Signature, tract::TractModel, view,
};

/// The classifier and the names of its classes.
#[derive(Debug)]
pub struct DigitsImage {
    digits: TractModel,
    labels: Vec<String>,
}

impl Model for DigitsImage {
    fn load(load: Load) -> Result<Self> {
        // Planned for one picture at a time, so jobs do not pay for planning.
        let shapes = Shapes::new().with("image", &[1, 64])?;
        let digits = TractModel::from_onnx(load.asset("digits.onnx")?.to_vec(), &shapes)?;
        let labels =
            std::str::from_utf8(load.asset("digits.labels.txt")?).context("digits.labels.txt")?;
        let labels: Vec<String> = labels.lines().map(String::from).collect();
        ensure!(labels.len() == 10, "digits.labels.txt: {} lines found, 10 allowed", labels.len());
        Ok(Self { digits, labels })
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .input("image", DataType::Bytes, [1])
            .output("label", DataType::Bytes, [1])
            .output("confidence", DataType::Fp32, [1])
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs> {
        let file = run.strings("image")?.next().unwrap_or_default();
        let pixels = picture::pixels(file);
        let pixels = pixels.map_err(|error| Error::invalid_input(format!("{error:#}")))?;
        let outputs = self.digits.run(&[view("image", &[1, 64], &pixels)?])?;
        let probabilities = outputs.elements::<f32>("probabilities")?;
        let best = (0..probabilities.len().min(self.labels.len()))
            .max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]))
            .context("the model has no classes")?;
        Outputs::new().with_strings("label", &[1], [&self.labels[best]])?.with(
            "confidence",
            &[1],
            vec![probabilities[best]],
        )
    }
}

fuelbox_sdk::export!(DigitsImage);

#[cfg(test)]
mod tests {
    use super::*;
    use fuelbox_sdk::{Shape, TensorView};

    const LABELS: &[u8] = include_bytes!("../../digits/digits.labels.txt");
    const DIGITS: &[u8] = include_bytes!("../../digits/digits.onnx");

    fn run(file: &[u8]) -> Result<Outputs> {
        let load = Load::for_test(&[("digits.onnx", DIGITS), ("digits.labels.txt", LABELS)]);
        let guest = DigitsImage::load(load?)?;
        let mut bytes = (file.len() as u32).to_le_bytes().to_vec();
        bytes.extend(file);
        let input = TensorView {
            name: "image",
            datatype: DataType::Bytes,
            shape: Shape::new(&[1]).expect("rank"),
            bytes: &bytes,
        };
        guest.signature().check(&[input])?;
        guest.run(&Run::for_test(&[input]))
    }

    #[test]
    fn a_picture_of_a_seven_is_a_seven() {
        let outputs = run(include_bytes!("../seven.png")).expect("an answer");
        let label = outputs.tensor("label").expect("a label").strings().next();
        assert_eq!(label, Some(b"seven".as_slice()));
        let confidence = outputs.elements::<f32>("confidence").expect("a number");
        assert!(confidence[0] > 0.9, "{confidence:?}");
    }

    #[test]
    fn what_is_no_picture_is_named() {
        let error = run(b"seven").expect_err("no picture").to_string();
        assert_eq!(error, "input 'image': Invalid PNG signature.");
    }
}
