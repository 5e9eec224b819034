//! A guest that decodes pictures: BMP, GIF, JPEG, PNG and WebP.

use std::io::Cursor;

use ampoule_guest::export;
use image::{ImageError, ImageFormat};

/// Decodes a picture and returns it as a PNG whose longer side has at most `longest_side` pixels.
#[export]
fn thumbnail(picture: &[u8], longest_side: u32) -> Result<Vec<u8>, ImageError> {
    let decoded = image::load_from_memory(picture)?;
    let mut png = Vec::new();
    decoded.thumbnail(longest_side, longest_side).write_to(&mut Cursor::new(&mut png), ImageFormat::Png)?;
    Ok(png)
}

ampoule_guest::main!();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_side_is_bounded_and_the_shape_kept() {
        let mut bmp = Vec::new();
        image::RgbImage::new(64, 32).write_to(&mut Cursor::new(&mut bmp), ImageFormat::Bmp).unwrap();
        let small = image::load_from_memory(&thumbnail(&bmp, 16).unwrap()).unwrap();
        assert_eq!((small.width(), small.height()), (16, 8));
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        assert!(thumbnail(b"not a picture", 16).is_err());
    }
}
