//! Compiles the CUDA sources with the feature `cuda`; without nvcc the build fails with an error that says what to do.
//!
//! Every `cuda/*.cu` becomes a fatbin that is embedded and loaded at start, so nothing is compiled at the first
//! request. `cuda/cutlass/*.cu`, which launch their kernels themselves, become one static library. A file is compiled
//! again only when it, a header or the flags change. `LATENTD_CUDA_CHECK=1` compiles none of them, which would take
//! minutes: enough for `cargo check` and clippy, but a build with it has no kernels and does not link.

#[path = "build/arguments.rs"]
mod arguments;

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::env;
use std::error::Error;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Ampere, Ada and Hopper, unless `LATENTD_CUDA_ARCHS` lists others.
const ARCHS: &str = "80,89,90a";
/// What a card without code of its own compiles when it loads a module: the newest that is not newer than the card. The
/// first is for every card since Ampere, whatever was built; from the second on there are conversions to fp8.
const PTX: [&str; 2] = ["80", "90"];

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=src/cuda/arguments");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    println!("cargo::rerun-if-changed=cuda");
    for variable in ["CUDA_HOME", "CUTLASS_HOME", "LATENTD_CUDA_ARCHS", "LATENTD_CUDA_CHECK"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    arguments::write()?;
    let cuda = Cuda::find()?;
    if env::var_os("LATENTD_CUDA_CHECK").is_some() {
        return cuda.embed(&[]);
    }
    let rows = sources("cuda")?;
    let tiles = sources("cuda/cutlass")?;
    let mut jobs: Vec<Job> = rows.iter().map(|source| cuda.fatbin(source)).collect();
    jobs.extend(tiles.iter().map(|source| cuda.object(source)));
    run(&cuda, jobs)?;
    cuda.embed(&rows)?;
    cuda.archive(&tiles)
}

/// The toolkit and what to compile for.
struct Cuda {
    home: PathBuf,
    cutlass: PathBuf,
    archs: Vec<String>,
    out: PathBuf,
    /// Of every header and this file.
    headers: u64,
}

/// One call of nvcc.
struct Job {
    source: PathBuf,
    output: PathBuf,
    flags: Vec<String>,
}

impl Cuda {
    fn find() -> Result<Self> {
        let needed = |name: &str, what: &str| {
            env::var_os(name).map(PathBuf::from).ok_or_else(|| {
                format!(
                    "the feature `cuda` needs {what}: set {name}, or run: eval \"$(scripts/cuda-toolchain)\""
                )
            })
        };
        let home = needed("CUDA_HOME", "the CUDA 13 toolkit")?;
        if !home.join("bin/nvcc").exists() {
            return Err(format!("CUDA_HOME is {}, which has no bin/nvcc", home.display()).into());
        }
        let cutlass = needed("CUTLASS_HOME", "the CUTLASS 4 sources")?;
        if !cutlass.join("include/cutlass/cutlass.h").exists() {
            return Err(format!(
                "CUTLASS_HOME is {}, which has no include/cutlass/cutlass.h",
                cutlass.display()
            )
            .into());
        }
        let archs = env::var("LATENTD_CUDA_ARCHS").unwrap_or_else(|_| ARCHS.into());
        // `src/cuda/select.rs` chooses kernels by it.
        println!("cargo::rustc-env=LATENTD_CUDA_ARCHS={archs}");
        let archs = archs.split(',').map(str::to_owned).collect();
        let out = PathBuf::from(env::var("OUT_DIR")?);
        Ok(Self { home, cutlass, archs, out, headers: headers()? })
    }

    fn fatbin(&self, source: &Path) -> Job {
        let mut flags: Vec<String> = ["-fatbin", "-std=c++17", "-O3", "-lineinfo"].map(String::from).into();
        flags.extend(self.archs.iter().map(|arch| format!("-gencode=arch=compute_{arch},code=sm_{arch}")));
        flags.extend(PTX.map(|arch| format!("-gencode=arch=compute_{arch},code=compute_{arch}")));
        Job { source: source.into(), output: self.output(source, "fatbin"), flags }
    }

    /// Files whose name ends in `_sm90` use instructions that only Hopper has; the rest is written for Ampere, goes
    /// through the compiler's front end once, and becomes code for every card.
    fn object(&self, source: &Path) -> Job {
        let mut flags: Vec<String> =
            ["-c", "-std=c++17", "-O3", "-DNDEBUG", "--expt-relaxed-constexpr", "--expt-extended-lambda"]
                .map(String::from)
                .into();
        // Without it every exponential of the softmax takes three instructions more, for results below 2^-126.
        flags.push("-ftz=true".into());
        flags.extend(["-Xcompiler", "-fPIC"].map(String::from));
        let folders = ["include", "tools/util/include", "examples/88_hopper_fmha"];
        let folders = folders.iter().chain(&["examples/41_fused_multi_head_attention"]);
        flags.extend(folders.map(|folder| format!("-I{}", self.cutlass.join(folder).display())));
        flags.push(format!("-I{}", self.home.join("include/cccl").display()));
        let hopper = self.archs.iter().any(|arch| arch == "90a");
        let only_hopper = source.file_stem().is_some_and(|name| name.to_string_lossy().ends_with("_sm90"));
        if only_hopper {
            let flag = if hopper { "-gencode=arch=compute_90a,code=sm_90a" } else { "-DLATENTD_NO_SM90" };
            flags.push(flag.into());
        } else {
            let codes = self.archs.iter().map(|arch| format!("sm_{}", arch.trim_end_matches(['a', 'f'])));
            let codes: BTreeSet<String> = codes.chain(["compute_80".into()]).collect();
            let codes: Vec<String> = codes.into_iter().collect();
            flags.push(format!("-gencode=arch=compute_80,code=[{}]", codes.join(",")));
        }
        Job { source: source.into(), output: self.output(source, "o"), flags }
    }

    fn output(&self, source: &Path, extension: &str) -> PathBuf {
        self.out.join(source.file_stem().unwrap_or_default()).with_extension(extension)
    }

    /// Writes the table of modules that `src/cuda/device.rs` includes.
    fn embed(&self, sources: &[PathBuf]) -> Result<()> {
        let mut table = String::from("&[\n");
        for source in sources {
            let fatbin = self.output(source, "fatbin");
            table += &format!("    include_bytes!({:?}),\n", fatbin.display().to_string());
        }
        Ok(fs::write(self.out.join("modules.rs"), table + "]\n")?)
    }

    fn archive(&self, sources: &[PathBuf]) -> Result<()> {
        let library = self.out.join("liblatentd_cutlass.a");
        if library.exists() {
            fs::remove_file(&library)?;
        }
        let objects = sources.iter().map(|source| self.output(source, "o"));
        checked(Command::new("ar").arg("crs").arg(&library).args(objects))?;
        println!("cargo::rustc-link-search=native={}", self.out.display());
        println!("cargo::rustc-link-search=native={}", self.home.join("lib64").display());
        println!("cargo::rustc-link-lib=static=latentd_cutlass");
        println!("cargo::rustc-link-lib=dylib=cudart");
        println!("cargo::rustc-link-lib=dylib=stdc++");
        Ok(())
    }
}

fn sources(folder: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
    files.sort();
    Ok(files)
}

fn headers() -> Result<u64> {
    let mut hash = DefaultHasher::new();
    fs::read("build.rs")?.hash(&mut hash);
    for folder in ["cuda", "cuda/cutlass"] {
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<_>>()?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "cuh"));
        files.sort();
        for file in files {
            fs::read(file)?.hash(&mut hash);
        }
    }
    Ok(hash.finish())
}

/// Compiles what has changed, as many files at a time as there are processors.
fn run(cuda: &Cuda, jobs: Vec<Job>) -> Result<()> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(jobs);
    let next = || queue.lock().ok().and_then(|mut jobs| jobs.pop());
    let work = || -> Result<()> {
        while let Some(job) = next() {
            compile(cuda, &job)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a compiler thread panicked")?)
    })
}

fn compile(cuda: &Cuda, job: &Job) -> Result<()> {
    let mut hash = DefaultHasher::new();
    (fs::read(&job.source)?, &job.flags, cuda.headers).hash(&mut hash);
    let (key, stamp) = (hash.finish().to_string(), job.output.with_extension("stamp"));
    if job.output.exists() && fs::read_to_string(&stamp).is_ok_and(|old| old == key) {
        return Ok(());
    }
    let nvcc = cuda.home.join("bin/nvcc");
    checked(Command::new(nvcc).args(&job.flags).arg(&job.source).arg("-o").arg(&job.output))?;
    Ok(fs::write(stamp, key)?)
}

fn checked(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}\n{}", String::from_utf8_lossy(&output.stderr)).into())
}
