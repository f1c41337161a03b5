//! `latentd generate`: images from the command line, without server or queue.

use crate::args::GenerateArgs;
use crate::checker;
use crate::config::{ConfigError, SingleModelConfig, adapters, model, safety};
use crate::engine;
use crate::image_file::{self, Format};
use crate::memory_check;
use crate::printable::printable;
use anyhow::{Context, Error, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use latentd_fal::endpoint::Published;
use latentd_models::{
    Control, ControlNet, GenerateRequest, Generated, Image, ImageEncoderFiles, InitImage, IpAdapter, Lora,
    MemoryMode, ModelCard, Observer, Step,
};
use latentd_request::{
    Beyond, CONTROL_SCALE, CONTROL_SHARE, IP_ADAPTER_SCALE, LORA_SCALE, Limits, Seed, SkipLayers,
};
use std::io::{ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::runtime::Runtime;

/// Default width and height, without flags, an initial image and a control image.
const DEFAULT_SIZE: (usize, usize) = (1024, 768);

/// Generates what `args` ask for and writes it.
///
/// # Errors
/// A [`ConfigError`] for a command line that cannot be carried out; otherwise one line that says what failed.
pub(crate) fn run(args: GenerateArgs, runtime: &Runtime) -> anyhow::Result<()> {
    let SingleModelConfig { model, engine, hub } = SingleModelConfig::resolve(&args.engine)?;
    let safety = safety::parse(&args.safety)?;
    let format = output_format(&args.output)?;
    check(&args)?;
    let mask = args.mask.as_deref().map(|path| read_image("--mask", path)).transpose()?;
    let image = args.image.as_deref().map(|path| read_image("--image", path)).transpose()?;
    let init_image = image.map(|image| InitImage { image, strength: args.strength, mask });
    let (controlnet, ip_adapter) = (controlnet(&args)?, ip_adapter(&args)?);
    let loras = args.lora.iter().filter(|lora| !is_definition(lora));
    let loras = loras.map(|lora| parse_lora(lora)).collect::<Result<_, _>>()?;
    let source = checker::ensure_downloaded_blocking(runtime, &hub, &safety, &model)?;
    let started = Instant::now();
    let card = ModelCard::read(&source)?;
    let published = card.identify(&source);
    let seed = args.seed.unwrap_or_else(Seed::draw);
    let images = (init_image, controlnet);
    let mut request = request(&args, images, seed, model::published_endpoint(published), engine.t5_tokens);
    (request.loras, request.ip_adapter) = (loras, ip_adapter);
    let asked = (request.width, request.height);
    (request.width, request.height) = generated_size(&model::limits(&source, &card), asked)?;
    let safety = checker::resolve(&safety, &hub, &source)?;
    let work = memory_check::work(&source, &request)?;
    let memory = memory_check::choose(&source, &engine, &safety, &work)?;
    if memory != MemoryMode::Resident {
        eprintln!("latentd: memory mode {}: weights are read from files when they are needed", memory.name());
    }
    let mut pipeline = engine::open(&source, &engine, memory)?;
    pipeline.set_safety(&safety)?;
    let load_seconds = started.elapsed().as_secs_f64();
    let bar = progress_bar(request.steps);
    let mut generated = pipeline.generate(&request, &mut ProgressObserver { bar: &bar })?;
    bar.finish_and_clear();
    if asked != (request.width, request.height) {
        let (width, height) = asked;
        eprintln!(
            "latentd: generated at {}x{}, the largest that this model generates, and scaled to {width}x{height}",
            request.width, request.height
        );
        generated.images =
            generated.images.into_iter().map(|image| image_file::scaled(image, asked)).collect();
    }
    for (index, verdict) in generated.verdicts.iter().enumerate().filter(|(_, verdict)| verdict.flagged) {
        let (number, score) = (index + 1, verdict.score);
        eprintln!("latentd: image {number} was found unsafe (score {score:.3}) and is black");
    }

    let encoding = Instant::now();
    let model = model::stand_in(&source, &card).unwrap_or(&published.name);
    let skip_layers = skip_layers(&args);
    let settings = image_file::Settings {
        prompt: &request.prompt,
        negative_prompt: &request.negative_prompt,
        seed,
        steps: request.steps,
        guidance: request.guidance,
        model,
        skip_layers: skip_layers.as_ref(),
        // A path of this machine says nothing elsewhere.
        controlnet: None,
        ip_adapter: None,
    };
    let paths = write_all(&args.output, format, &generated.images, &settings)?;
    let encode_seconds = encoding.elapsed().as_secs_f64();
    if args.json {
        println!("{}", report(seed, &generated, &paths, load_seconds, encode_seconds));
    } else {
        for path in &paths {
            println!("{} (seed {seed})", path.display());
        }
    }
    Ok(())
}

/// Refuses what no model can do, by the flag's name.
fn check(args: &GenerateArgs) -> Result<(), ConfigError> {
    let GenerateArgs { steps, guidance, num_images, strength, .. } = args;
    let zero = [("--steps", *steps), ("--num-images", Some(*num_images))];
    if let Some((flag, _)) = zero.iter().find(|(_, value)| *value == Some(0)) {
        return Err(ConfigError(format!("{flag} 0: give 1 or more")));
    }
    let GenerateArgs { control_scale, control_start, control_end, ip_scale, .. } = args;
    for (flag, value, range) in [
        ("--control-scale", *control_scale, CONTROL_SCALE),
        ("--control-start", *control_start, CONTROL_SHARE),
        ("--control-end", *control_end, CONTROL_SHARE),
        ("--ip-scale", *ip_scale, IP_ADAPTER_SCALE),
    ] {
        if !range.contains(&value) {
            let (least, most) = range.into_inner();
            return Err(ConfigError(format!("{flag} {value}: give a number from {least} to {most}")));
        }
    }
    if !(*strength > 0.0 && *strength <= 1.0) {
        return Err(ConfigError(format!("--strength {strength}: give a number above 0 up to 1")));
    }
    match guidance.filter(|guidance| !guidance.is_finite()) {
        Some(guidance) => Err(ConfigError(format!("--guidance {guidance}: give a number"))),
        None => Ok(()),
    }
}

fn output_format(output: &Path) -> Result<Format, ConfigError> {
    let extension = output.extension().unwrap_or_default().to_string_lossy();
    let Some(format) = Format::from_extension(&extension) else {
        return Err(ConfigError(format!(
            "--output {}: end the name in .png, .jpg, .jpeg or .webp",
            output.display()
        )));
    };
    match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => Err(ConfigError(format!(
            "--output {}: there is no folder {}",
            output.display(),
            folder.display()
        ))),
        _ => Ok(format),
    }
}

/// The ControlNet of the flags with its image.
fn controlnet(args: &GenerateArgs) -> anyhow::Result<Option<ControlNet>> {
    let (Some(path), Some(image)) = (&args.controlnet, &args.control_image) else { return Ok(None) };
    Ok(Some(ControlNet {
        name: path.display().to_string(),
        path: path.clone(),
        config: None,
        image: read_image("--control-image", image)?,
        scale: args.control_scale,
        start: args.control_start,
        end: args.control_end,
    }))
}

/// The IP-Adapter of the flags with its image.
fn ip_adapter(args: &GenerateArgs) -> anyhow::Result<Option<IpAdapter>> {
    let (Some(path), Some(encoder), Some(image)) = (&args.ip_adapter, &args.ip_encoder, &args.ip_image)
    else {
        return Ok(None);
    };
    let name = |path: &Path| path.display().to_string();
    let encoder =
        ImageEncoderFiles { name: name(encoder), path: encoder.clone(), config: None, processor: None };
    let image = read_image("--ip-image", image)?;
    Ok(Some(IpAdapter { name: name(path), path: path.clone(), encoder, image, scale: args.ip_scale }))
}

/// What is asked for; `usual` is what is not.
fn request(
    args: &GenerateArgs,
    (init_image, controlnet): (Option<InitImage>, Option<ControlNet>),
    seed: Seed,
    usual: &Published,
    t5_tokens: usize,
) -> GenerateRequest {
    let control_image = controlnet.as_ref().map(|net| &net.image);
    let sized = init_image.as_ref().map(|init_image| &init_image.image).or(control_image);
    let (width, height) = sized.map_or(DEFAULT_SIZE, |image| (image.width, image.height));
    GenerateRequest {
        prompt: args.prompt.clone(),
        negative_prompt: args.negative_prompt.clone(),
        width: args.width.unwrap_or(width),
        height: args.height.unwrap_or(height),
        steps: args.steps.unwrap_or(usual.steps),
        guidance: args.guidance.unwrap_or(usual.guidance),
        seed: seed.bits(),
        num_images: args.num_images,
        skipped_images: 0,
        t5_tokens,
        check_safety: true,
        init_image,
        loras: Vec::new(),
        skip_layers: skip_layers(args).as_ref().map(engine::skip_layers),
        controlnet,
        ip_adapter: None,
    }
}

/// Whether a value of `--lora` gives a file a name, as `serve` takes it from the same variable or file: it applies nothing.
fn is_definition(value: &str) -> bool {
    !Path::new(value).exists() && adapters::definition(value).is_some()
}

/// diffusers' defaults are those of the flags.
fn skip_layers(args: &GenerateArgs) -> Option<SkipLayers> {
    let GenerateArgs { skip_layers, skip_scale, skip_start, skip_stop, .. } = args;
    (!skip_layers.is_empty()).then(|| SkipLayers {
        layers: skip_layers.clone(),
        scale: *skip_scale,
        start: *skip_start,
        stop: *skip_stop,
    })
}

/// A value of `--lora`: a path that may end with `@` and a number.
fn parse_lora(value: &str) -> Result<Lora, ConfigError> {
    let scaled = value.rsplit_once('@').and_then(|(path, scale)| Some((path, scale.parse::<f64>().ok()?)));
    let (path, scale) = scaled.unwrap_or((value, 1.0));
    if path.is_empty() {
        return Err(ConfigError(format!("--lora {value}: give a file, and its scale after an @")));
    }
    if !LORA_SCALE.contains(&scale) {
        let (least, most) = (LORA_SCALE.start(), LORA_SCALE.end());
        return Err(ConfigError(format!("--lora {value}: give a scale from {least} to {most}")));
    }
    Ok(Lora { name: path.into(), path: path.into(), scale })
}

/// The size that is generated for the one that was asked for.
fn generated_size(limits: &Limits, (width, height): (usize, usize)) -> Result<(usize, usize), ConfigError> {
    for (flag, pixels) in [("--width", width), ("--height", height)] {
        if pixels == 0 {
            return Err(ConfigError(format!("{flag} 0: give 1 or more")));
        }
        if let Err(beyond) = limits.check(pixels, 1) {
            return Err(ConfigError(format!(
                "{flag} {pixels}: give at most {}, {}",
                beyond.limit(),
                beyond.what()
            )));
        }
    }
    let too_large = |beyond: Beyond| {
        ConfigError(format!(
            "--width {width} --height {height}: at most {}, {}",
            beyond.limit(),
            beyond.what()
        ))
    };
    limits.check(width, height).map_err(too_large)?;
    Ok(limits.generated(width, height))
}

/// Reads the image that a flag names.
fn read_image(flag: &str, path: &Path) -> anyhow::Result<Image> {
    let named = || format!("{flag} {}", path.display());
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!("{}: there is no such file", named()),
        _ => Error::new(error).context(named()),
    })?;
    image_file::decode(&bytes).with_context(named)
}

/// On a terminal; silent in a pipe.
fn progress_bar(steps: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} step {pos}/{len}  {elapsed} (about {eta} left)");
    let bar = ProgressBar::new(steps as u64);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Advances the progress bar, and prints notes on lines of their own.
struct ProgressObserver<'a> {
    bar: &'a ProgressBar,
}

impl Observer for ProgressObserver<'_> {
    fn step(&mut self, step: Step) -> Control {
        self.bar.set_position(step.index as u64);
        Control::Continue
    }

    fn note(&mut self, words: &str) {
        self.bar.suspend(|| eprintln!("latentd: {}", printable(words)));
    }
}

/// One image goes to `output`, several to `output` with `-1`, `-2`, … before the extension.
fn write_all(
    output: &Path,
    format: Format,
    images: &[Image],
    settings: &image_file::Settings<'_>,
) -> anyhow::Result<Vec<PathBuf>> {
    let numbered = |index: usize| {
        let (stem, extension) =
            (output.file_stem().unwrap_or_default(), output.extension().unwrap_or_default());
        let name = format!("{}-{}.{}", stem.to_string_lossy(), index + 1, extension.to_string_lossy());
        output.with_file_name(name)
    };
    let mut paths = Vec::new();
    for (index, image) in images.iter().enumerate() {
        let path = if images.len() == 1 { output.to_path_buf() } else { numbered(index) };
        let bytes = image_file::encode(image, format, &settings.text(index))?;
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        paths.push(path);
    }
    Ok(paths)
}

fn report(seed: Seed, generated: &Generated, paths: &[PathBuf], load: f64, encode: f64) -> serde_json::Value {
    let images: Vec<_> = paths
        .iter()
        .zip(&generated.images)
        .map(|(path, image)| {
            let (width, height) = (image.width, image.height);
            serde_json::json!({ "path": path, "width": width, "height": height, "seed": seed })
        })
        .collect();
    let timings = engine::stage_seconds(generated.timings, encode, Some(load));
    serde_json::json!({
        "images": images,
        "timings": timings,
        "has_nsfw_concepts": generated.flagged(),
    })
}
