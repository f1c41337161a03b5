//! `latentd models list`: what can be run.

use latentd_models::{Manifest, ModelCard, ModelSource};

/// Prints the models.
pub(crate) fn list(json: bool) -> latentd_models::Result<()> {
    let card = ModelCard::read(&ModelSource::Builtin)?;
    // The built-in model stands in for each.
    let endpoints: Vec<String> = Manifest::all().iter().map(|manifest| manifest.endpoint.id()).collect();
    if json {
        let models = serde_json::json!([{
            "name": card.name,
            "source": "built in",
            "size_multiple": card.size_multiple,
            "max_side": card.max_side,
            "endpoints": endpoints,
        }]);
        println!("{models:#}");
        return Ok(());
    }
    println!("{:<12} {:<10} SIZES", "NAME", "SOURCE");
    println!("{:<12} {:<10} up to {2}x{2} px", card.name, "built in", card.max_side);
    println!("\nEndpoints: {}", endpoints.join(", "));
    println!("\nA directory in the diffusers layout or a checkpoint file works too: --model PATH");
    Ok(())
}
