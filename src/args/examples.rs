//! Examples at the end of a command's help. A test parses each.

pub(super) const SERVE: &str = "Examples:
  latentd serve
  latentd serve --model stable-diffusion-3.5-large --device cuda:0
  latentd serve --listen 0.0.0.0:8080 --api-key-file /etc/latentd/api-keys
  latentd serve --config /etc/latentd/latentd.toml";

pub(super) const WORKER: &str = "Examples:
  latentd worker --device cuda:1 --database-url-file /run/secrets/database-url --storage s3://images/latentd";

pub(super) const GENERATE: &str = "Examples:
  latentd generate 'a red house on the left of a lake' -o house.png
  latentd generate 'a fox in the snow' -o fox.png --model stable-diffusion-3.5-medium --seed 7 --steps 30
  latentd generate 'the same at night' -o night.png --image house.png --strength 0.6";

pub(super) const BACKUP: &str = "Examples:
  latentd backup /backups/latentd.tar --data-dir /var/lib/latentd";

pub(super) const BUNDLE: &str = "Examples:
  latentd bundle stable-diffusion-3.5-large -o large.latentd
  latentd bundle sd3.5_large.safetensors --text-encoders text_encoders -o large.latentd";

pub(super) const RUN: &str = "Examples:
  latentd run -- python generate.py
  latentd run --allow-network -- npm start";

pub(super) const COMPLETIONS: &str = "Examples:
  latentd completions bash > /usr/share/bash-completion/completions/latentd
  latentd completions zsh > /usr/local/share/zsh/site-functions/_latentd
  latentd completions fish > ~/.config/fish/completions/latentd.fish";

pub(super) const MAN: &str = "Examples:
  latentd man /usr/local/share/man/man1";
