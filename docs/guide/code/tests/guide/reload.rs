//! What `docs/guide/pages/shipping.md` shows.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::{Arc, RwLock};

use ampoule::{Image, Pool, Sandbox};

/// A pool that can be replaced while it is in use.
struct Plugin(RwLock<Arc<Pool>>);

impl Plugin {
    fn load(file: &Path) -> Result<Self, Box<dyn Error>> {
        Ok(Self(RwLock::new(Arc::new(make_pool(file)?))))
    }

    /// The new image serves whoever comes from now on; who has a sandbox of the old one keeps it.
    fn reload(&self, file: &Path) -> Result<(), Box<dyn Error>> {
        let pool = Arc::new(make_pool(file)?);
        *self.0.write().expect("nobody panics with the lock") = pool;
        Ok(())
    }

    fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.0.read().expect("nobody panics with the lock"))
    }
}

fn make_pool(file: &Path) -> Result<Pool, Box<dyn Error>> {
    let image = Image::from_file(file)?;
    for function in ["load_dictionary", "parse"] {
        image.export(function).ok_or_else(|| format!("{} exports no {function}", file.display()))?;
    }
    let mut sandbox = Sandbox::builder(&image).build()?;
    sandbox.typed_fn::<(&str,), String>("parse")?;
    Ok(Pool::new(&sandbox.snapshot()?, 2)?)
}

#[test]
fn an_image_is_replaced_while_another_is_in_use() -> Result<(), Box<dyn Error>> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dictionary");
    fs::write(&file, ampoule::include_guest!("dictionary").bytes())?;
    let plugin = Plugin::load(&file)?;
    let mut old = plugin.pool().take()?;
    plugin.reload(&file)?;
    assert_eq!(old.call::<String>("parse", ("word",))?, "");
    assert_eq!(plugin.pool().take()?.call::<String>("parse", ("word",))?, "");

    fs::write(&file, "no image")?;
    assert!(plugin.reload(&file).is_err());
    assert_eq!(plugin.pool().take()?.call::<String>("parse", ("word",))?, "");
    Ok(())
}
