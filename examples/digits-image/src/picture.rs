//! Pre-processing: a PNG file becomes the pixels that the classifier knows, 8x8 of 0 (paper) to 16
//! (ink).

use anyhow::{Context, Result, ensure};
use std::io::Cursor;

/// Widest and highest picture. Larger ones say no more about a digit, and cost fuel.
const SIDE_MAX: u32 = 2048;

/// Rows and columns of the classifier's picture.
const SIDE: usize = 8;

/// Reads the picture, finds out whether ink or paper is dark, and shrinks it by averaging.
pub(crate) fn pixels(file: &[u8]) -> Result<[f32; SIDE * SIDE]> {
    let picture = Picture::read(file).context("input 'image'")?;
    let mut pixels = [0.0; SIDE * SIDE];
    for (index, pixel) in pixels.iter_mut().enumerate() {
        *pixel = picture.average(index % SIDE, index / SIDE);
    }
    if picture.has_bright_paper() {
        pixels.iter_mut().for_each(|pixel| *pixel = 255.0 - *pixel);
    }
    // Faint ink counts as much as strong ink.
    let paper = pixels.iter().copied().fold(f32::INFINITY, f32::min);
    let ink = pixels.iter().copied().fold(0.0, f32::max);
    ensure!(ink > paper, "input 'image': all of one brightness, a digit is needed");
    Ok(pixels.map(|pixel| (pixel - paper) / (ink - paper) * 16.0))
}

/// Brightness, row by row.
struct Picture {
    width: usize,
    height: usize,
    luma: Vec<u8>,
}

impl Picture {
    fn read(file: &[u8]) -> Result<Self> {
        let mut decoder = png::Decoder::new(Cursor::new(file));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let header = decoder.read_header_info()?;
        let (width, height) = (header.width, header.height);
        let fits = |side| (SIDE as u32..=SIDE_MAX).contains(&side);
        ensure!(
            fits(width) && fits(height),
            "{width} x {height} pixels found, {SIDE} to {SIDE_MAX} each way allowed"
        );
        let mut reader = decoder.read_info()?;
        let mut bytes = vec![0; reader.output_buffer_size().context("size overflows")?];
        let info = reader.next_frame(&mut bytes)?;
        let channels = info.color_type.samples();
        let luma = bytes[..info.buffer_size()].chunks_exact(channels).map(luma);
        Ok(Self { width: width as usize, height: height as usize, luma: luma.collect() })
    }

    /// Average brightness of one of the 8x8 fields.
    fn average(&self, column: usize, row: usize) -> f32 {
        let span = |field: usize, side: usize| field * side / SIDE..(field + 1) * side / SIDE;
        let (mut sum, mut count) = (0u32, 0u32);
        for y in span(row, self.height) {
            for &luma in &self.luma[y * self.width..][span(column, self.width)] {
                sum += u32::from(luma);
                count += 1;
            }
        }
        // 256 x 256 pixels of 255 at most: exact in `u32`, and in `f32` as good as rounding allows.
        sum as f32 / count as f32
    }

    /// A digit keeps off most of the frame, so the frame shows the paper.
    fn has_bright_paper(&self) -> bool {
        let (right, bottom) = (self.width - 1, self.height - 1);
        let at = |x: usize, y: usize| u64::from(self.luma[y * self.width + x]);
        let rows: u64 = (0..self.width).map(|x| at(x, 0) + at(x, bottom)).sum();
        let columns: u64 = (0..self.height).map(|y| at(0, y) + at(right, y)).sum();
        rows + columns > 127 * 2 * (self.width + self.height) as u64
    }
}

/// Brightness of grey, grey + alpha, RGB or RGB + alpha (on white) with the weights of ITU-R BT.601.
fn luma(pixel: &[u8]) -> u8 {
    let weighed =
        |r: u8, g: u8, b: u8| (u32::from(r) * 299 + u32::from(g) * 587 + u32::from(b) * 114) / 1000;
    let over_white =
        |luma: u32, alpha: u8| (luma * u32::from(alpha) + 255 * u32::from(255 - alpha)) / 255;
    let luma = match *pixel {
        [grey] => u32::from(grey),
        [grey, alpha] => over_white(u32::from(grey), alpha),
        [r, g, b] => weighed(r, g, b),
        [r, g, b, alpha] => over_white(weighed(r, g, b), alpha),
        _ => 0,
    };
    luma as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of `side` x `side` grey pixels with a bar of ink down the middle.
    fn bar(side: u32, paper: u8, ink: u8) -> Vec<u8> {
        let pixel = |index: u32| {
            let (x, y) = (index % side * 8 / side, index / side * 8 / side);
            if x == 4 && (1..7).contains(&y) { ink } else { paper }
        };
        let luma: Vec<u8> = (0..side * side).map(pixel).collect();
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, side, side);
        encoder.set_color(png::ColorType::Grayscale);
        let mut writer = encoder.write_header().expect("in memory");
        writer.write_image_data(&luma).expect("in memory");
        writer.finish().expect("in memory");
        file
    }

    #[test]
    fn ink_is_ink_on_bright_and_dark_paper() {
        let expected: [f32; 64] =
            std::array::from_fn(|i| if i % 8 == 4 && (8..56).contains(&i) { 16.0 } else { 0.0 });
        for file in [bar(64, 255, 0), bar(64, 0, 255), bar(8, 200, 100), bar(24, 30, 90)] {
            assert_eq!(pixels(&file).expect("a picture"), expected);
        }
    }

    #[test]
    fn bad_pictures_are_named() {
        let error = |file: &[u8]| format!("{:#}", pixels(file).expect_err("bad"));
        assert_eq!(
            error(&bar(32, 9, 9)),
            "input 'image': all of one brightness, a digit is needed"
        );
        assert_eq!(
            error(&bar(4, 0, 255)),
            "input 'image': 4 x 4 pixels found, 8 to 2048 each way allowed"
        );
        assert!(error(b"GIF89a").starts_with("input 'image': "));
        let whole = bar(64, 0, 255);
        for len in 0..whole.len() {
            // What is cut off may be no more than the end mark.
            let cut = pixels(&whole[..len]);
            assert!(cut.is_err() || len > whole.len() / 2, "cut to {len} bytes");
        }
    }
}
