use rocket_worker::image::*;
fn diff(name: &str, a: &Picture, b: &Picture) {
    if a.width != b.width || a.height != b.height {
        println!(
            "{name}: size {}x{} vs {}x{}",
            a.width, a.height, b.width, b.height
        );
        return;
    }
    let n = a.data.len() as f64;
    let mut s = 0.;
    let mut over = 0;
    let mut mx = 0;
    for (x, y) in a.data.iter().zip(&b.data) {
        let d = x.abs_diff(*y);
        s += d as f64;
        if d > 2 {
            over += 1
        }
        mx = mx.max(d);
    }
    println!(
        "{name}: mean {:.4} over2 {:.4}% max {mx}",
        s / n,
        100. * over as f64 / n
    );
}
fn main() {
    let dir = "/work/shared/golden/images/";
    let mut names: Vec<_> = std::fs::read_dir(format!("{dir}src"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for n in names {
        let b = std::fs::read(format!("{dir}src/{n}")).unwrap();
        match decode(&b) {
            Ok(p) => {
                let g = decode(&std::fs::read(format!("{dir}{n}.decoded.png")).unwrap()).unwrap();
                diff(&n, &p, &g);
                let e = decode(&std::fs::read(format!("{dir}{n}.eval224.png")).unwrap()).unwrap();
                diff(&format!("{n} eval"), &eval_picture(&p, 224), &e);
                diff(&format!("{n} eval from golden"), &eval_picture(&g, 224), &e);
            }
            Err(e) => println!("{n}: {e}"),
        }
    }
    let j: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string("/work/shared/golden/images.json").unwrap())
            .unwrap();
    for (k, v) in j["ops"].as_object().unwrap() {
        let src = decode(&std::fs::read(format!("{dir}{}", v["src"].as_str().unwrap())).unwrap())
            .unwrap();
        let f = v["factor"].as_f64().unwrap_or(0.);
        let mut p = src.clone();
        match k.split('_').next().unwrap() {
            "rrc" => {
                let r: Vec<usize> = v["ijhw"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|x| x.as_u64().unwrap() as usize)
                    .collect();
                let o = v["out"].as_u64().unwrap() as usize;
                p = resize(
                    &src,
                    Rect {
                        top: r[0],
                        left: r[1],
                        height: r[2],
                        width: r[3],
                    },
                    o,
                    o,
                    Filter::Bicubic,
                )
            }
            "brightness" => brightness(&mut p, f),
            "contrast" => contrast(&mut p, f),
            "saturation" => saturation(&mut p, f),
            "hue" => hue(&mut p, f),
            "jitter" => {
                for c in v["order"].as_str().unwrap().chars() {
                    let f = v["factors"][c.to_string()].as_f64().unwrap();
                    match c {
                        'b' => brightness(&mut p, f),
                        'c' => contrast(&mut p, f),
                        's' => saturation(&mut p, f),
                        _ => hue(&mut p, f),
                    }
                }
            }
            "gray3" => grayscale(&mut p),
            "blur" => gaussian_blur(&mut p, v["sigma"].as_f64().unwrap()),
            "solarize" => solarize(&mut p),
            "hflip" => horizontal_flip(&mut p),
            x => panic!("{x}"),
        }
        let g = decode(&std::fs::read(format!("{dir}{}", v["file"].as_str().unwrap())).unwrap())
            .unwrap();
        diff(k, &p, &g);
    }
}
