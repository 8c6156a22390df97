#!/bin/bash
# floor.sh SITE_IMAGE DATABASE_CONTAINER DATA_ROOT COUNT: how fast can bare docker commands make COUNT sites, one after
# the other? Nothing of provision's but the images. The time runs from nothing to a first page answered with 200.
set -eu
image=$1 database=$2 root=$3 count=$4
id=floor$$ work=$root/floor$$
sql() { docker exec "$database" mariadb -e "$1"; }
cleanup() {
    for i in $(seq "$count"); do
        docker rm -f "$id-$i" >/dev/null 2>&1 || true
        sql "DROP DATABASE IF EXISTS ${id}_$i; DROP USER IF EXISTS ${id}_$i@localhost" || true
    done
    rm -rf "$work"
}
trap cleanup EXIT
mkdir -p "$work"
docker run --rm --network none "$image" tar -C /srv -c content | tar -x -C "$work"
salts=$(for name in AUTH SECURE_AUTH LOGGED_IN NONCE; do printf '"%s_KEY":"%s","%s_SALT":"%s",' $name floor $name floor; done)

start=$(date +%s.%N)
for i in $(seq "$count"); do
    site=$work/$i uid=$(( 290000 + i ))
    sql "CREATE DATABASE ${id}_$i; CREATE USER ${id}_$i@localhost IDENTIFIED BY 'floor'; GRANT ALL ON ${id}_$i.* TO ${id}_$i@localhost"
    mkdir -p "$site"/{run,site,generation,media,tmp} && cp -R "$work/content" "$site/content"
    echo "{\"salts\":{${salts%,}}}" > "$site/site/site.json"
    echo "{\"database\":\"${id}_$i\",\"user\":\"${id}_$i\",\"password\":\"floor\",\"host\":\"floor.localhost\",\"support\":\"a@example.org\"}" > "$site/generation/generation.json"
    chown -R "$uid:$uid" "$site"
    docker run -d --name "$id-$i" --network none --read-only --cap-drop ALL --security-opt no-new-privileges --user "$uid:$uid" \
        --memory 384m --pids-limit 100 --tmpfs "/run/php:mode=0700,uid=$uid,gid=$uid" -v "$root/run/database:/run/mysqld:ro" \
        -v "$site/run:/run/site" -v "$site/site:/run/secrets/site:ro" -v "$site/generation:/run/secrets/generation:ro" \
        -v "$site/content:/srv/wordpress/wp-content" -v "$site/media:/srv/wordpress/wp-content/uploads" -v "$site/tmp:/tmp" "$image" >/dev/null
    docker exec "$id-$i" php -r 'define("WP_INSTALLING", true); require "/srv/wordpress/wp-load.php"; require ABSPATH . "wp-admin/includes/upgrade.php";
        function wp_mail() { return true; } wp_install("Floor", "floor", "floor@example.org", false, "", "floor", "fr_FR");'
    until [ -S "$site/run/http.sock" ]; do sleep 0.02; done
    [ "$(curl -s -o /dev/null -w '%{http_code}' --unix-socket "$site/run/http.sock" http://localhost/)" = 200 ]
done
echo "$start $(date +%s.%N) $count" | awk '{ printf "%.2f s per site (%d sites)\n", ($2 - $1) / $3, $3 }'
