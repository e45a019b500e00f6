//! Builds `ebpf/programs` for the BPF target, for `kernel/load.rs` to embed.
//!
//! It needs a compiler with a core library for that target, which rustup's stable toolchains lack:
//! Debian's `rustc-web` with `libstd-rust-web-dev-bpf`, or else a nightly toolchain with `rust-src`.
//! And it needs `bpf-linker`. `scripts/setup` installs them.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let ebpf = variable_path("CARGO_MANIFEST_DIR")?.with_file_name("ebpf");
    let programs = ebpf.join("programs");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    let little = variable("CARGO_CFG_TARGET_ENDIAN")? == "little";
    let target = if little { "bpfel-unknown-none" } else { "bpfeb-unknown-none" };
    let path = path_with_cargo_bin();
    if find_in(&path, "bpf-linker").is_none() {
        return Err(format!("bpf-linker, which links the eBPF programs, is missing: {SETUP}"));
    }
    let toolchain = Toolchain::find(&path, target)
        .ok_or_else(|| format!("no Rust compiler here has a core library for {target}: {SETUP}"))?;

    let out = variable_path("OUT_DIR")?;
    let target_dir = out.join("ebpf-target");
    let mut cargo = toolchain.cargo(target)?;
    cargo
        .current_dir(&programs)
        .args(["build", "--release", "--locked", "--target", target, "--target-dir"])
        .arg(&target_dir)
        .env("PATH", &path)
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags()?);
    let output = cargo.output().map_err(|error| format!("start cargo: {error}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("build the eBPF programs with {toolchain:?}:\n{errors}"));
    }
    let object = target_dir.join(target).join("release").join(OBJECT);
    fs::copy(&object, out.join(OBJECT))
        .map_err(|error| format!("copy {}: {error}", object.display()))?;
    Ok(())
}

/// A compiler that can build for the BPF target.
#[derive(Debug)]
enum Toolchain {
    /// Debian's, with the core library prebuilt; aya-ebpf needs an unstable feature of it.
    Debian,
    /// rustup's nightly, which builds the core library from `rust-src`.
    Nightly,
}

impl Toolchain {
    fn find(path: &OsString, target: &str) -> Option<Self> {
        let debian = sysroot(Command::new(DEBIAN_RUSTC).env("PATH", path))
            .is_some_and(|sysroot| sysroot.join("lib/rustlib").join(target).is_dir());
        if debian {
            return Some(Self::Debian);
        }
        let mut nightly = Command::new("rustup");
        clean(&mut nightly);
        let sysroot = sysroot(nightly.args(["run", "nightly", "rustc"]).env("PATH", path))?;
        let source = sysroot.join("lib/rustlib/src/rust/library/core");
        source.is_dir().then_some(Self::Nightly)
    }

    /// Cargo with this compiler, and without what the outer cargo, rustup or clippy has set.
    fn cargo(&self, target: &str) -> Result<Command, String> {
        let mut command = match self {
            Self::Debian => Command::new(variable("CARGO")?),
            Self::Nightly => Command::new("rustup"),
        };
        clean(&mut command);
        match self {
            Self::Debian => command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1"),
            Self::Nightly => command.args(["run", "nightly", "cargo", "-Zbuild-std=core"]),
        };
        // The linker's default for this target, said aloud in case a configuration file differs.
        let linker = target.to_uppercase().replace('-', "_");
        command.env(format!("CARGO_TARGET_{linker}_LINKER"), "bpf-linker");
        Ok(command)
    }
}

/// Take away the variables that would make the inner build a part of the outer one.
fn clean(command: &mut Command) {
    const KEEP: [&str; 4] = ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_TERM_", "CARGO_NET_"];
    const EXACT: [&str; 8] =
        ["TARGET", "HOST", "OUT_DIR", "PROFILE", "OPT_LEVEL", "DEBUG", "CLIPPY_ARGS", "RUSTFLAGS"];
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let kept = KEEP.iter().any(|keep| text.starts_with(keep))
            // Registries and proxies may be set by variables.
            || text.starts_with("CARGO_REGISTR")
            || text.starts_with("CARGO_HTTP_")
            || text.starts_with("CARGO_SOURCE_");
        let ours = text == "CARGO"
            || text.starts_with("CARGO_")
            || text.starts_with("RUSTC")
            || text.starts_with("RUSTDOC")
            || text == "RUSTUP_TOOLCHAIN"
            || EXACT.contains(&text);
        if ours && !kept {
            command.env_remove(name);
        }
    }
}

fn rust_flags() -> Result<String, String> {
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let arch = if arch.starts_with("riscv64") { "riscv64" } else { &arch };
    let cfg = format!("--cfg=bpf_target_arch=\"{arch}\"");
    // BTF describes the maps to the loader, and comes from the debug information.
    Ok([cfg.as_str(), "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\x1f"))
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

/// `PATH`, and behind it where `cargo install` puts programs.
fn path_with_cargo_bin() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let bin = cargo_home.map(|home| home.join("bin"));
    env::join_paths(env::split_paths(&path).chain(bin)).unwrap_or(path)
}

fn find_in(path: &OsString, program: &str) -> Option<PathBuf> {
    env::split_paths(path).map(|directory| directory.join(program)).find(|file| is_file(file))
}

fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("read ${name}: {error}"))
}

fn variable_path(name: &str) -> Result<PathBuf, String> {
    variable(name).map(PathBuf::from)
}

const OBJECT: &str = "pintle-ebpf";
/// From the package's directory: with whole paths a target directory that another checkout filled
/// would watch that checkout, and its old object would pass for this one's.
const SOURCES: [&str; 5] = [
    "../ebpf/programs/src",
    "../ebpf/programs/Cargo.toml",
    "../ebpf/programs/Cargo.lock",
    "../ebpf/common/src",
    "../ebpf/common/Cargo.toml",
];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const SETUP: &str = "run scripts/setup, which installs what the eBPF programs are built with";
