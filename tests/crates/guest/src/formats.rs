//! Formats of data and documents.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use crate::Use;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

pub(crate) const USES: &[Use] = &[
    ("serde_json", "writes and reads a struct", || {
        let text = serde_json::to_string(&Point { x: 1, y: -2 })?;
        assert_eq!(text, r#"{"x":1,"y":-2}"#);
        assert_eq!(serde_json::from_str::<Point>(&text)?, Point { x: 1, y: -2 });
        Ok(())
    }),
    ("toml", "writes and reads a struct", || {
        let text = toml::to_string(&Point { x: 1, y: -2 })?;
        assert_eq!(toml::from_str::<Point>(&text)?, Point { x: 1, y: -2 });
        Ok(())
    }),
    ("serde_yaml_ng", "writes and reads a struct", || {
        let text = serde_yaml_ng::to_string(&Point { x: 1, y: -2 })?;
        assert_eq!(serde_yaml_ng::from_str::<Point>(&text)?, Point { x: 1, y: -2 });
        Ok(())
    }),
    ("postcard", "writes and reads a struct", || {
        let bytes = postcard::to_allocvec(&Point { x: 1, y: -2 })?;
        assert_eq!(postcard::from_bytes::<Point>(&bytes)?, Point { x: 1, y: -2 });
        Ok(())
    }),
    ("csv", "reads records", || {
        let mut reader = csv::Reader::from_reader("x,y\n1,-2\n".as_bytes());
        let points: Vec<Point> = reader.deserialize().collect::<Result<_, _>>()?;
        assert_eq!(points, [Point { x: 1, y: -2 }]);
        Ok(())
    }),
    ("roxmltree", "finds an attribute", || {
        let document = roxmltree::Document::parse("<a><b c='d'/></a>")?;
        assert!(document.descendants().any(|node| node.attribute("c") == Some("d")));
        Ok(())
    }),
    ("pulldown-cmark", "renders Markdown as HTML", || {
        let mut html = String::new();
        pulldown_cmark::html::push_html(&mut html, pulldown_cmark::Parser::new("*a*"));
        assert_eq!(html, "<p><em>a</em></p>\n");
        Ok(())
    }),
    ("minijinja", "renders a template", || {
        let environment = minijinja::Environment::new();
        let values = std::collections::BTreeMap::from([("x", 1)]);
        assert_eq!(environment.render_str("{{ x + 1 }}", values)?, "2");
        Ok(())
    }),
    ("base64", "encodes and decodes", || {
        use base64::Engine;
        let engine = base64::engine::general_purpose::STANDARD;
        assert_eq!(engine.decode(engine.encode("ampoule"))?, b"ampoule");
        Ok(())
    }),
    ("hex", "encodes and decodes", || {
        assert_eq!(hex::decode(hex::encode("ampoule"))?, b"ampoule");
        Ok(())
    }),
    ("flate2", "compresses and decompresses", || {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&[7; 10_000])?;
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(encoder.finish()?.as_slice()).read_to_end(&mut bytes)?;
        assert_eq!(bytes, [7; 10_000]);
        Ok(())
    }),
    ("lz4_flex", "compresses and decompresses", || {
        let packed = lz4_flex::compress_prepend_size(&[7; 10_000]);
        assert_eq!(lz4_flex::decompress_size_prepended(&packed)?, [7; 10_000]);
        Ok(())
    }),
    ("image", "writes and reads a PNG picture", || {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::from_pixel(8, 8, image::Rgb([1, 2, 3])).write_to(&mut bytes, image::ImageFormat::Png)?;
        let picture = image::load_from_memory(bytes.get_ref())?.to_rgb8();
        assert_eq!(picture.get_pixel(7, 7), &image::Rgb([1, 2, 3]));
        Ok(())
    }),
];
