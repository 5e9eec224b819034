use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Instant;

use crate::announced::announce;
use crate::artifact::write_to;
use crate::cargo::{self, Package, Workspace};
use crate::inputs::Inputs;
use crate::place::Place;
use crate::script::{BuildScript, PREBUILT_GUESTS, SAVE_GUESTS};
use crate::{Artifact, BuildError, prebuilt, progress, target};

/// Names the package of a guest. A relative `path` is relative to the directory of the host's package.
///
/// ```no_run
/// ampoule_build::guest("../guest").build();
/// ```
pub fn guest(path: impl AsRef<Path>) -> Guest {
    Guest {
        path: path.as_ref().to_owned(),
        bins: Vec::new(),
        features: Vec::new(),
        default_features: true,
        profile: "release".to_owned(),
        rustflags: Vec::new(),
        env: Vec::new(),
        locked: false,
        offline: false,
        or_prebuilt: None,
    }
}

/// How to build a guest; made by [`guest`].
///
/// ```no_run
/// ampoule_build::guest("../plugins")
///     .bin("resize")
///     .features(["webp", "avif"])
///     .profile("plugin")
///     .build();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a guest is built by `build` or `try_build`"]
pub struct Guest {
    path: PathBuf,
    pub(crate) bins: Vec<String>,
    pub(crate) features: Vec<String>,
    pub(crate) default_features: bool,
    pub(crate) profile: String,
    pub(crate) rustflags: Vec<String>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) locked: bool,
    pub(crate) offline: bool,
    or_prebuilt: Option<PathBuf>,
}

impl Guest {
    /// Builds this binary of the package. May be called several times; without it, all binaries are built whose
    /// `required-features` are enabled.
    pub fn bin(mut self, name: impl Into<String>) -> Self {
        self.bins.push(name.into());
        self
    }

    /// Enables features of the guest's package, in addition to those already named.
    pub fn features<F: Into<String>>(mut self, features: impl IntoIterator<Item = F>) -> Self {
        self.features.extend(features.into_iter().map(Into::into));
        self
    }

    /// Leaves the default features of the guest's package disabled.
    pub fn no_default_features(mut self) -> Self {
        self.default_features = false;
        self
    }

    /// Builds with this cargo profile instead of `release`.
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profile = name.into();
        self
    }

    /// Passes an additional argument to rustc for every crate of the guest, but not for its build scripts and procedural
    /// macros: `.rustflag("-Ctarget-cpu=x86-64-v3")`.
    pub fn rustflag(mut self, flag: impl Into<String>) -> Self {
        self.rustflags.push(flag.into());
        self
    }

    /// Sets an environment variable for the guest's build, where `env!` and build scripts see it.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Fails when the guest's `Cargo.lock` is missing or out of date, like cargo's `--locked`.
    pub fn locked(mut self) -> Self {
        self.locked = true;
        self
    }

    /// Builds without the network, like cargo's `--offline`.
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// Takes the images that are in a directory where the guest's package is missing, as it is in a host that was published
    /// with built guests. Each image is a file with the name of its binary; all are taken, unless [`bin`](Self::bin) names
    /// some. A relative `dir` is relative to the directory of the host's package.
    ///
    /// Where the guest's package is there, it is built, and the images are not looked at.
    pub fn or_prebuilt(mut self, dir: impl AsRef<Path>) -> Self {
        self.or_prebuilt = Some(dir.as_ref().to_owned());
        self
    }

    /// Builds the guest, and ends the build script with a message if that fails.
    ///
    /// Everything that cargo needs to know is printed to standard output: for each binary the variable that
    /// `ampoule::include_guest!` reads, and the files whose change calls for another build.
    pub fn build(self) {
        end_on_error(self.try_build());
    }

    /// Builds the guest like [`build`](Self::build), but returns what was built or why it was not.
    ///
    /// # Errors
    ///
    /// See [`BuildError`]. What the compiler or cargo have to say is on the standard error stream by then.
    pub fn try_build(self) -> Result<Vec<Artifact>, BuildError> {
        let mut inputs = Inputs::default();
        let result = BuildScript::from_env().and_then(|script| self.build_in(&script, &mut inputs));
        inputs.announce();
        for variable in [PREBUILT_GUESTS, SAVE_GUESTS] {
            println!("cargo:rerun-if-env-changed={variable}");
        }
        result.and_then(|artifacts| announce(&artifacts).map(|()| artifacts))
    }

    /// `inputs` is complete enough to notice that a failure was mended, even when this fails.
    fn build_in(&self, script: &BuildScript, inputs: &mut Inputs) -> Result<Vec<Artifact>, BuildError> {
        let manifest = match (self.manifest(script), &self.or_prebuilt) {
            (Ok(manifest), _) => manifest,
            (Err(BuildError::GuestNotFound { manifest, .. }), Some(dir)) => {
                return self.take_prebuilt(script, manifest, script.package_dir.join(dir), inputs);
            }
            (Err(error), _) => return Err(error),
        };
        inputs.add(&manifest);

        let workspace = Workspace::load(script, self, &manifest)?;
        let package = workspace.package(&manifest).ok_or(BuildError::NotAPackage { manifest })?;
        let bins = self.choose_bins(package)?;
        if script.docs_rs {
            return bins.into_iter().map(|bin| Artifact::write(bin, &[], &script.out_dir)).collect();
        }
        if let Some(dir) = &script.prebuilt_guests {
            let is_wanted =
                |bin: &&str| !self.bins.is_empty() || !package.requires_features(bin) || dir.join(bin).exists();
            return prebuilt::take(script, bins.into_iter().filter(is_wanted), dir, inputs);
        }
        self.compile(script, &workspace, package, inputs)
    }

    fn compile(
        &self,
        script: &BuildScript,
        workspace: &Workspace,
        package: &Package,
        inputs: &mut Inputs,
    ) -> Result<Vec<Artifact>, BuildError> {
        let target = target::choose(script)?;
        progress::began(&package.name, &format!("target `{target}`, profile `{}`", self.profile));
        let place = Place::take(script, self, target)?;
        let start = Instant::now();
        let build = cargo::build(script, self, workspace, package, &place)
            .inspect_err(|_| inputs.add_unbuilt(package, &script.out_dir))?;
        progress::ended(&package.name, start.elapsed());

        inputs.add_build(&build, workspace, package, &script.out_dir)?;
        if build.images.is_empty() {
            return Err(BuildError::MissingFeatures { package: package.name.clone() });
        }
        if !build.has_guest_library {
            return Err(BuildError::NoGuestLibrary { manifest: package.manifest_path.clone() });
        }
        build
            .images
            .iter()
            .map(|image| {
                let bytes =
                    fs::read(&image.path).map_err(|reason| BuildError::Read { path: image.path.clone(), reason })?;
                if let Some(dir) = &script.save_guests {
                    inputs.add(&write_to(dir, &image.bin, &bytes)?);
                }
                Artifact::write(&image.bin, &bytes, &script.out_dir)
            })
            .collect()
    }

    /// Takes the images whose names are in `dir`, since there is no package.
    fn take_prebuilt(
        &self,
        script: &BuildScript,
        manifest: PathBuf,
        dir: PathBuf,
        inputs: &mut Inputs,
    ) -> Result<Vec<Artifact>, BuildError> {
        inputs.add(&dir);
        let bins = if self.bins.is_empty() { prebuilt::names_in(&dir) } else { self.bins.clone() };
        if bins.is_empty() {
            return Err(BuildError::NothingPrebuilt { manifest, dir });
        }
        let dir = script.prebuilt_guests.as_ref().unwrap_or(&dir);
        prebuilt::take(script, bins.iter().map(String::as_str), dir, inputs)
    }

    /// The compiler's flags.
    pub(crate) fn flags(&self) -> impl Iterator<Item = &str> {
        target::RUSTFLAGS.into_iter().chain(self.rustflags.iter().map(String::as_str))
    }

    fn manifest(&self, script: &BuildScript) -> Result<PathBuf, BuildError> {
        let manifest = script.package_dir.join(&self.path).join("Cargo.toml");
        manifest.canonicalize().map_err(|reason| BuildError::GuestNotFound { manifest, reason })
    }

    fn choose_bins<'a>(&'a self, package: &'a Package) -> Result<Vec<&'a str>, BuildError> {
        let available: Vec<&str> = package.bins().collect();
        if available.is_empty() {
            return Err(BuildError::NoBinary { package: package.name.clone() });
        }
        if let Some(unknown) = self.bins.iter().find(|bin| !available.contains(&bin.as_str())) {
            return Err(BuildError::UnknownBinary {
                package: package.name.clone(),
                bin: unknown.clone(),
                available: available.into_iter().map(str::to_owned).collect(),
            });
        }
        Ok(if self.bins.is_empty() { available } else { self.bins.iter().map(String::as_str).collect() })
    }
}

/// Ends the build script with a message where a guest is missing.
pub(crate) fn end_on_error<T>(result: Result<T, BuildError>) {
    if let Err(error) = result {
        eprintln!("error: {error}");
        process::exit(1);
    }
}

#[cfg(test)]
mod tests;
