//! `latentd models list`: what can be run.

use latentd_models::ModelCard;

/// Prints the models.
pub(crate) fn list(json: bool) -> latentd_models::Result<()> {
    let card = ModelCard::builtin()?;
    if json {
        let models = serde_json::json!([{
            "name": card.name,
            "source": "built in",
            "size_multiple": card.size_multiple,
            "max_side": card.max_side,
            "paints_noise": card.paints_noise,
        }]);
        println!("{models:#}");
        return Ok(());
    }
    let note = if card.paints_noise { "random weights: it paints noise" } else { "" };
    println!("{:<12} {:<10} {:<26} NOTE", "NAME", "SOURCE", "SIZES");
    let sizes = format!("up to {0}x{0} px", card.max_side);
    println!("{:<12} {:<10} {sizes:<26} {note}", card.name, "built in");
    println!("\nA directory in the diffusers layout works too: --model DIR");
    Ok(())
}
