//! The models as files: `NAME/model.onnx`, `NAME/inputs.json`, and a file of raw elements per input.

use anyhow::{Context, Result, bail};
use fuelbox_engine::{DataType, Shape, Tensor};
use fuelbox_test_support::onnx::{
    Element,
    models::{FAMILIES, Family, Sample},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{fs, path::Path};

/// What `inputs.json` says of an input.
#[derive(Deserialize, Serialize)]
struct Description {
    name: String,
    datatype: String,
    shape: Vec<u64>,
    file: String,
}

/// Writes the models of these names, or all of them, and prints a line of JSON for each.
pub(crate) fn write(
    folder: &Path,
    names: &[&str],
    sample: impl Fn(&Family) -> Sample,
) -> Result<()> {
    if let Some(name) = names.iter().find(|name| FAMILIES.iter().all(|known| known.name != **name))
    {
        let known: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        bail!("no model is called '{name}', there are {}", known.join(", "));
    }
    for family in FAMILIES {
        let name = family.name;
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        let Sample { onnx, inputs, logits } = sample(&family);
        let folder = folder.join(name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let mut descriptions = Vec::new();
        for input in &inputs {
            let file = format!("{}.raw", input.name);
            fs::write(folder.join(&file), &input.bytes)?;
            descriptions.push(Description {
                name: input.name.into(),
                datatype: datatype(input.element)?.to_string(),
                shape: input.shape.clone(),
                file,
            });
        }
        fs::write(folder.join("inputs.json"), serde_json::to_vec_pretty(&descriptions)?)?;
        fs::write(folder.join("model.onnx"), &onnx)?;
        println!("{}", json!({ "name": name, "bytes": onnx.len(), "logits": logits }));
    }
    Ok(())
}

/// Reads a folder that [`write()`] made.
pub(crate) fn read(folder: &Path) -> Result<(Vec<u8>, Vec<Tensor>)> {
    let text = fs::read(folder.join("inputs.json")).context("inputs.json")?;
    let descriptions: Vec<Description> = serde_json::from_slice(&text)?;
    let tensors = descriptions.into_iter().map(|Description { name, datatype, shape, file }| {
        let shape = Shape::new(&shape).context("too many dimensions")?;
        let known = [DataType::Fp32, DataType::Int64];
        let datatype = known.into_iter().find(|known| known.to_string() == datatype);
        let datatype = datatype.context("an input's datatype")?;
        let bytes = fs::read(folder.join(&file)).context(file)?;
        Ok(Tensor { name, datatype, shape, bytes })
    });
    let tensors = tensors.collect::<Result<_>>()?;
    Ok((fs::read(folder.join("model.onnx")).context("model.onnx")?, tensors))
}

fn datatype(element: Element) -> Result<DataType> {
    match element {
        Element::F32 => Ok(DataType::Fp32),
        Element::I64 => Ok(DataType::Int64),
        other => bail!("inputs of type {other:?}"),
    }
}
