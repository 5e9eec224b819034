//! The known ways out of a directory: none leads anything out of a grant, or into it.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ampoule_vfs::{Builder, Errno, FileType, Follow, NodeKind, Vfs};
use linux_raw_sys::general::{O_CREAT, O_DIRECTORY, O_PATH, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY};
use rustix::fs::{CWD, Mode, RenameFlags};
use tempfile::TempDir;

use common::{CONTEXT, Process, SMALL, names, open, read};

/// A granted directory, and beside it what is not granted.
struct Host {
    directory: TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(host.granted().join("inner/deep")).unwrap();
        fs::write(host.granted().join("file"), "granted").unwrap();
        fs::write(host.granted().join("inner/file"), "granted").unwrap();
        fs::create_dir(host.path("outside")).unwrap();
        fs::write(host.path("outside/file"), SECRET).unwrap();
        fs::write(host.path("secret"), SECRET).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn granted(&self) -> PathBuf {
        self.path("granted")
    }

    /// A tree of each kind that has the directory at `/data`.
    fn trees(&self) -> [(&'static str, Vfs); 3] {
        [
            ("read-only", Builder::new().host_read_only("/data", self.granted()).build().unwrap()),
            ("read-write", Builder::new().host_read_write("/data", self.granted()).build().unwrap()),
            ("overlay", Builder::new().overlay("/data", self.granted(), SMALL).build().unwrap()),
        ]
    }

    fn assert_outside_is_untouched(&self) {
        let mut names: Vec<_> = names_on_host(self.directory.path());
        names.sort();
        assert_eq!(names, ["granted", "outside", "secret"]);
        assert_eq!(names_on_host(&self.path("outside")), ["file"]);
        assert_eq!(fs::read_to_string(self.path("outside/file")).unwrap(), SECRET);
        assert_eq!(fs::read_to_string(self.path("secret")).unwrap(), SECRET);
    }
}

const SECRET: &str = "not granted";

#[test]
fn no_path_and_no_link_leads_out_of_a_host_directory() {
    let host = Host::new();
    let outside = host.path("outside");
    let link = |name: &str, target: &Path| symlink(target, host.granted().join(name)).unwrap();
    link("absolute", &host.path("secret"));
    link("absolute-directory", &outside);
    link("relative", Path::new("../secret"));
    link("relative-directory", Path::new("../outside"));
    link("far", Path::new("../../../../../../../../../../etc/passwd"));
    link("passwd", Path::new("/etc/passwd"));
    link("root", Path::new("/"));
    link("up", Path::new(".."));
    link("up-twice", Path::new("inner/../.."));
    link("self-root", Path::new("/proc/self/root/etc/passwd"));
    link("process-root", Path::new(&format!("/proc/{}/root/etc/passwd", std::process::id())));
    link("process-directory", Path::new(&format!("/proc/{}/cwd/Cargo.toml", std::process::id())));
    link("chain", Path::new("chain-2/secret"));
    link("chain-2", Path::new("inner/deep/../../.."));
    let paths = [
        "/data/../secret",
        "/data/../../secret",
        "/data/../../../../../etc/passwd",
        "/data/inner/../../secret",
        "/data/inner/deep/../../../secret",
        "/data/./.././secret",
        "/data//..//secret",
        "/data/absolute",
        "/data/absolute-directory/file",
        "/data/relative",
        "/data/relative-directory/file",
        "/data/far",
        "/data/passwd",
        "/data/root/etc/passwd",
        "/data/up/secret",
        "/data/up/outside/file",
        "/data/up-twice/secret",
        "/data/self-root",
        "/data/process-root",
        "/data/process-directory",
        "/data/chain",
        "/data/inner/../up/up/secret",
        "/etc/passwd",
        "/proc/self/root/etc/passwd",
        "/proc/self/cwd/../secret",
        "/proc/self/fd/3/../secret",
        "/proc/self/fd/3/../../secret",
        "/proc/self/fd/3/inner/../../secret",
        "/proc/self/exe/../secret",
        "/proc/1/root/etc/passwd",
        "/dev/fd/3/../secret",
    ];
    for (kind, mut vfs) in host.trees() {
        let process = Process::new(&mut vfs, "/data");
        for path in paths.iter().copied().map(str::to_owned).chain([host.path("secret").to_str().unwrap().to_owned()]) {
            for base in ["/data", "/data/inner"] {
                let base = vfs.resolve(&CONTEXT, &vfs.root(), base.as_bytes(), Follow::Always).unwrap();
                let context = process.context();
                let result = vfs.open(&context, &base, path.as_bytes(), O_RDONLY, 0);
                assert!(result.is_err(), "{kind}: {path} is {result:?}");
                let created = vfs.open(&context, &base, path.as_bytes(), O_RDWR | O_TRUNC, 0);
                assert!(created.is_err(), "{kind}: {path} is {created:?}");
            }
        }
        // From the root of the mount, `..` is the sandbox's root.
        assert_eq!(names(&mut vfs, "/data/.."), ["data", "dev", "proc"], "{kind}");
        assert_eq!(names(&mut vfs, "/data/up"), ["data", "dev", "proc"], "{kind}");
        let mut inner = names(&mut vfs, "/data/root/data/inner");
        inner.sort();
        assert_eq!(inner, ["deep", "file"], "{kind}: absolute links begin at the sandbox's root");
    }
    host.assert_outside_is_untouched();
}

#[test]
fn a_guests_own_links_lead_through_its_own_tree_only() {
    let host = Host::new();
    for (kind, mut vfs) in host.trees().into_iter().skip(1) {
        let root = vfs.root();
        let outside = host.path("outside");
        for (name, target) in [("a", "../secret"), ("b", "/etc/passwd"), ("c", outside.to_str().unwrap()), ("d", "..")]
        {
            vfs.create_symlink(&CONTEXT, target.as_bytes(), &root, format!("/data/{name}").as_bytes()).unwrap();
        }
        for path in ["/data/a", "/data/b", "/data/c", "/data/c/file", "/data/d/secret", "/data/d/data/d/data/a"] {
            let flags = O_RDWR | O_TRUNC;
            assert_eq!(
                vfs.open(&CONTEXT, &root, path.as_bytes(), flags, 0).unwrap_err(),
                Errno::ENOENT,
                "{kind}: {path}"
            );
        }
        assert_eq!(vfs.create_directory(&CONTEXT, &root, b"/data/c/new", 0o755), Err(Errno::ENOENT), "{kind}");
        assert_eq!(vfs.rename(&CONTEXT, (&root, b"/data/file"), (&root, b"/data/c/file"), 0), Err(Errno::ENOENT));
        // Creating through a dangling link creates where that leads in the sandbox.
        let file = vfs.open(&CONTEXT, &root, b"/data/a", O_RDWR | O_CREAT, 0o644).unwrap();
        vfs.close(file);
        assert_eq!(read(&mut vfs, "/secret"), b"", "{kind}");
    }
    host.assert_outside_is_untouched();
}

#[test]
fn no_name_is_moved_or_linked_from_one_mount_to_another() {
    let host = Host::new();
    for (kind, mut vfs) in host.trees() {
        let root = vfs.root();
        let file = open(&mut vfs, "/own", O_RDWR | O_CREAT);
        let granted = vfs.resolve(&CONTEXT, &root, b"/data/file", Follow::Never).unwrap();
        assert_eq!(vfs.link(&CONTEXT, &granted, &root, b"/link"), Err(Errno::EXDEV), "{kind}");
        assert_eq!(vfs.link(&CONTEXT, file.location(), &root, b"/data/link"), Err(Errno::EXDEV), "{kind}");
        for (from, to) in [("/data/file", "/moved"), ("/own", "/data/own"), ("/data/inner", "/inner")] {
            let result = vfs.rename(&CONTEXT, (&root, from.as_bytes()), (&root, to.as_bytes()), 0);
            assert_eq!(result, Err(Errno::EXDEV), "{kind}: {from} to {to}");
        }
        for result in [
            vfs.remove_directory(&CONTEXT, &root, b"/data"),
            vfs.rename(&CONTEXT, (&root, b"/data"), (&root, b"/other"), 0),
            vfs.rename(&CONTEXT, (&root, b"/dev"), (&root, b"/other"), 0),
        ] {
            assert_eq!(result, Err(Errno::EBUSY), "{kind}: a mount stays where it is");
        }
        vfs.close(file);
    }
    host.assert_outside_is_untouched();
}

#[test]
fn pipes_sockets_and_devices_of_the_host_are_seen_and_never_opened() {
    let host = Host::new();
    let pipe = host.granted().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    let _listener = UnixListener::bind(host.granted().join("socket")).unwrap();
    let device = host.granted().join("device");
    let null = rustix::fs::makedev(1, 3);
    let kind = rustix::fs::FileType::CharacterDevice;
    let has_device = rustix::fs::mknodat(CWD, &device, kind, Mode::from_raw_mode(0o666), null).is_ok();
    for (kind, mut vfs) in host.trees() {
        let root = vfs.root();
        let mut special = vec![("pipe", FileType::Fifo), ("socket", FileType::Socket)];
        special.extend(has_device.then_some(("device", FileType::CharacterDevice)));
        for (name, file_type) in special {
            let path = format!("/data/{name}").into_bytes();
            let location = vfs.resolve(&CONTEXT, &root, &path, Follow::Always).unwrap();
            assert_eq!(vfs.metadata(&location).unwrap().file_type, file_type, "{kind}");
            for flags in [O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_TRUNC, O_RDWR | O_CREAT] {
                let result = vfs.open(&CONTEXT, &root, &path, flags, 0o644);
                assert!(matches!(result, Err(Errno::ENXIO | Errno::EROFS)), "{kind}: {name} is {result:?}");
            }
            let place = vfs.open(&CONTEXT, &root, &path, O_PATH, 0).unwrap();
            assert_eq!(vfs.read_at(&place, &mut [0], 0), Err(Errno::EBADF));
            vfs.close(place);
        }
    }
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
}

#[test]
fn a_guest_makes_nothing_on_the_host_that_gives_or_needs_privileges() {
    let host = Host::new();
    let mut vfs = Builder::new().host_read_write("/", host.granted()).without_devices().without_processes();
    vfs = vfs.open_files(100);
    let mut vfs = vfs.build().unwrap();
    let root = vfs.root();
    let file = vfs.open(&CONTEXT, &root, b"/tool", O_RDWR | O_CREAT, 0o6755).unwrap();
    vfs.create_directory(&CONTEXT, &root, b"/group", 0o2755).unwrap();
    vfs.create_node(&CONTEXT, &root, b"/node", NodeKind::Regular, 0o4755).unwrap();
    let unnamed = vfs.open(&CONTEXT, &root, b"/", O_TMPFILE | O_RDWR, 0o4755).unwrap();
    vfs.link(&CONTEXT, unnamed.location(), &root, b"/unnamed").unwrap();
    for name in ["tool", "group", "node", "unnamed"] {
        let mode = fs::metadata(host.granted().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o6000, 0, "{name}");
    }
    for permissions in [0o4755, 0o2755, 0o6777] {
        assert_eq!(vfs.set_permissions(&CONTEXT, file.location(), permissions), Err(Errno::EPERM));
    }
    for kind in [NodeKind::Fifo, NodeKind::Socket] {
        assert_eq!(vfs.create_node(&CONTEXT, &root, b"/special", kind, 0o644), Err(Errno::EPERM));
    }
    assert_eq!(vfs.set_owner(&CONTEXT, file.location(), Some(0), None), Err(Errno::EPERM));
}

#[test]
fn nothing_of_a_read_only_directory_can_be_changed() {
    let host = Host::new();
    symlink("file", host.granted().join("link")).unwrap();
    let mut vfs = Builder::new().host_read_only("/data", host.granted()).build().unwrap();
    let root = vfs.root();
    let file = vfs.resolve(&CONTEXT, &root, b"/data/file", Follow::Always).unwrap();
    let errors = [
        vfs.open(&CONTEXT, &root, b"/data/file", O_RDWR, 0).map(drop),
        vfs.open(&CONTEXT, &root, b"/data/file", O_WRONLY, 0).map(drop),
        vfs.open(&CONTEXT, &root, b"/data/file", O_RDONLY | O_TRUNC, 0).map(drop),
        vfs.open(&CONTEXT, &root, b"/data/new", O_RDWR | O_CREAT, 0o644).map(drop),
        vfs.open(&CONTEXT, &root, b"/data", O_RDWR | O_TMPFILE, 0o644).map(drop),
        vfs.truncate(&CONTEXT, &file, 0),
        vfs.create_directory(&CONTEXT, &root, b"/data/new", 0o755),
        vfs.create_symlink(&CONTEXT, b"file", &root, b"/data/new"),
        vfs.create_node(&CONTEXT, &root, b"/data/new", NodeKind::Fifo, 0o755),
        vfs.link(&CONTEXT, &file, &root, b"/data/new"),
        vfs.rename(&CONTEXT, (&root, b"/data/file"), (&root, b"/data/new"), 0),
        vfs.remove_file(&CONTEXT, &root, b"/data/file"),
        vfs.remove_directory(&CONTEXT, &root, b"/data/inner"),
        vfs.set_permissions(&CONTEXT, &file, 0o777),
        vfs.set_owner(&CONTEXT, &file, Some(1000), None),
        vfs.check_access(&file, 2),
    ];
    for (index, result) in errors.into_iter().enumerate() {
        assert_eq!(result, Err(Errno::EROFS), "{index}");
    }
    assert_eq!(read(&mut vfs, "/data/link"), b"granted");
    let mut names = names_on_host(&host.granted());
    names.sort();
    assert_eq!(names, ["file", "inner", "link"]);
}

#[test]
fn a_granted_file_brings_nothing_of_its_directory() {
    let host = Host::new();
    let mut vfs = Builder::new().host_file("/opt/tool", host.granted().join("file")).build().unwrap();
    assert_eq!(read(&mut vfs, "/opt/tool"), b"granted");
    assert_eq!(names(&mut vfs, "/opt"), ["tool"]);
    let root = vfs.root();
    for path in ["/opt/tool/../inner/file", "/opt/inner", "/opt/tool/inner", "/opt/../inner", "/opt/tool/.."] {
        assert!(vfs.resolve(&CONTEXT, &root, path.as_bytes(), Follow::Always).is_err(), "{path}");
    }
    let up = vfs.resolve(&CONTEXT, &root, b"/opt/..", Follow::Always).unwrap();
    assert_eq!(vfs.path(&up).unwrap(), b"/");
}

/// Swaps two names on the host for as long as something is done.
fn while_swapping<R>(one: &Path, other: &Path, action: impl FnOnce() -> R) -> R {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                std::thread::yield_now();
            }
        });
        let _end = SetAtEnd(&done);
        action()
    })
}

/// Ends the swapping even when what is done meanwhile fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_directory_that_becomes_a_link_during_a_look_up_leads_nowhere_else() {
    let host = Host::new();
    symlink(host.path("outside"), host.granted().join("link")).unwrap();
    for (kind, mut vfs) in host.trees() {
        let root = vfs.root();
        while_swapping(&host.granted().join("inner"), &host.granted().join("link"), || {
            for _ in 0..ROUNDS {
                for path in [&b"/data/inner/file"[..], b"/data/link/file"] {
                    if let Ok(file) = vfs.open(&CONTEXT, &root, path, O_RDONLY, 0) {
                        let mut text = [0; 20];
                        let count = vfs.read_at(&file, &mut text, 0).unwrap();
                        assert_eq!(&text[..count], b"granted", "{kind}");
                        vfs.close(file);
                    }
                }
                if kind == "read-write" {
                    let created = vfs.open(&CONTEXT, &root, b"/data/inner/new", O_RDWR | O_CREAT, 0o644);
                    created.into_iter().for_each(|file| vfs.close(file));
                    let _ = vfs.remove_file(&CONTEXT, &root, b"/data/link/file-2");
                    let _ = vfs.create_directory(&CONTEXT, &root, b"/data/link/directory", 0o755);
                }
            }
        });
        host.assert_outside_is_untouched();
    }
}

#[test]
fn a_file_that_becomes_a_pipe_during_a_look_up_stops_nobody() {
    let host = Host::new();
    let pipe = host.granted().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    for (_, mut vfs) in host.trees() {
        let root = vfs.root();
        while_swapping(&host.granted().join("file"), &pipe, || {
            for _ in 0..ROUNDS {
                match vfs.open(&CONTEXT, &root, b"/data/file", O_RDONLY, 0) {
                    Ok(file) => {
                        assert_eq!(vfs.file_type(file.location()), Ok(FileType::Regular));
                        vfs.close(file);
                    }
                    Err(errno) => assert_eq!(errno, Errno::ENXIO),
                }
            }
        });
    }
}

#[test]
fn a_directory_that_is_moved_out_during_a_look_up_leads_no_higher_than_its_grant() {
    let host = Host::new();
    fs::create_dir_all(host.path("outside/inner/deep")).unwrap();
    for (kind, mut vfs) in host.trees() {
        let root = vfs.root();
        let deep = vfs.open(&CONTEXT, &root, b"/data/inner/deep", O_PATH | O_DIRECTORY, 0).unwrap();
        while_swapping(&host.granted().join("inner"), &host.path("outside/inner"), || {
            for _ in 0..ROUNDS {
                for path in
                    [&b"/data/inner/deep/../../secret"[..], b"/data/inner/../secret", b"/data/inner/../file/../secret"]
                {
                    assert!(vfs.open(&CONTEXT, &root, path, O_RDONLY, 0).is_err(), "{kind}");
                }
                for path in [&b"../../secret"[..], b"../../../secret", b"../../outside/file", b"../file/../../secret"] {
                    assert!(vfs.open(&CONTEXT, deep.location(), path, O_RDONLY, 0).is_err(), "{kind}");
                }
            }
        });
        vfs.close(deep);
    }
}

fn names_on_host(directory: &Path) -> Vec<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Enough look-ups to meet the other state many times.
const ROUNDS: u32 = 300;
